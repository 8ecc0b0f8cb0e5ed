-- name: put
INSERT INTO memory_items (
    tenant, store, item_id, fields, scope, words, source, confidence, created_at, updated_at, valid_from, valid_until,
    from_id, to_id, task_id, vector, vector_bits, vector_model
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: known
SELECT created_at, updated_at FROM memory_items WHERE tenant = ? AND store = ? AND item_id = ?

-- name: delete
DELETE FROM memory_items WHERE tenant = ? AND store = ? AND item_id = ?

-- name: delete_edges
DELETE FROM memory_items WHERE id IN (
    SELECT id FROM memory_items WHERE tenant = :tenant AND from_id = :node AND from_id IS NOT NULL
    UNION SELECT id FROM memory_items WHERE tenant = :tenant AND to_id = :node AND to_id IS NOT NULL
)

-- name: is_node
SELECT EXISTS (
    SELECT 1 FROM memory_items WHERE tenant = ? AND store = 'social' AND item_id = ? AND from_id IS NULL
)

-- name: item
SELECT {columns} FROM memory_items WHERE tenant = ? AND store = ? AND item_id = ?

-- name: items
SELECT {columns} FROM memory_items WHERE tenant = ? AND store = ? AND (created_at, item_id) < (?, ?)
ORDER BY created_at DESC, item_id DESC LIMIT ?

-- name: items_of_task
SELECT {columns} FROM memory_items
WHERE task_id = ? AND task_id IS NOT NULL AND tenant = ? AND store = ? AND (created_at, item_id) < (?, ?)
ORDER BY created_at DESC, item_id DESC LIMIT ?

-- name: everything
SELECT {columns} FROM memory_items WHERE tenant = ? ORDER BY store, created_at, item_id

-- name: size
SELECT coalesce(sum(items) FILTER (WHERE scope = ?1), 0), coalesce(sum(words) FILTER (WHERE scope = ?1), 0),
    coalesce(sum(items), 0)
FROM memory_sizes

-- name: having
SELECT coalesce((SELECT doc FROM memory_vocabulary WHERE term = ? AND col = 'words'), 0)

-- name: recent
-- The id behind which the newest items of a store are.
SELECT coalesce((
    SELECT id FROM memory_items WHERE tenant = ? AND store = ? ORDER BY id DESC LIMIT 1 OFFSET ?
), 0)

-- name: search
-- The best by the index; of those that are as good as the last of them, the newest.
WITH found AS MATERIALIZED (
    SELECT rowid AS id, rank FROM memory_words
    WHERE memory_words MATCH :query AND rank MATCH 'bm25(0.0, 1.0)' AND rowid > :behind
)
SELECT {columns} FROM memory_items WHERE id IN (
    SELECT id FROM found CROSS JOIN memory_items USING (id)  -- cross: in this order
    WHERE rank <= coalesce((SELECT rank FROM found ORDER BY rank LIMIT 1 OFFSET :limit - 1), 0)
    AND tenant = :tenant AND store = :store
    AND (valid_from IS NULL OR valid_from <= :now) AND (valid_until IS NULL OR valid_until > :now)
    ORDER BY rank, updated_at DESC, item_id LIMIT :limit
)

-- name: nearest
SELECT id, vector_bits FROM memory_items WHERE tenant = ? AND store = ? AND vector_model = ? AND vector_model IS NOT NULL
AND (valid_from IS NULL OR valid_from <= ?) AND (valid_until IS NULL OR valid_until > ?)

-- name: items_by_row
SELECT id, {columns} FROM memory_items WHERE id IN (SELECT value FROM json_each(?))

-- name: souls
SELECT tenant, version, body, caller, created_at FROM memory_souls WHERE tenant = ? ORDER BY version DESC LIMIT ?

-- name: put_soul
INSERT INTO memory_souls (tenant, version, body, caller, created_at)
SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM memory_souls WHERE tenant = ?1 AND version >= ?2)

-- name: working
SELECT key, value FROM working_memory w WHERE id IN (
    SELECT max(w.id) FROM working_memory w LEFT JOIN runs r USING (number)
    WHERE w.tenant = ? AND w.thread_id = ? AND r.superseded IS NOT 1
    AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.number = w.number AND m.superseded)
    GROUP BY w.key
) ORDER BY w.id

-- name: put_working
INSERT INTO working_memory (tenant, thread_id, number, key, value, created_at) VALUES (?, ?, ?, ?, ?, ?)

-- name: own_working
SELECT value FROM working_memory WHERE tenant = ? AND thread_id = ? AND key = ? AND number = ? ORDER BY id DESC LIMIT 1

-- name: matched
SELECT count(*) FROM memory_words WHERE memory_words MATCH :query AND rowid > :behind
