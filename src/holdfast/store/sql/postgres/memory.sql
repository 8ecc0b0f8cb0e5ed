-- name: put
INSERT INTO holdfast.memory_items AS known (
    tenant, store, item_id, fields, scope, words, source, confidence, created_at, updated_at, valid_from, valid_until,
    from_id, to_id, task_id, vector, vector_bits, vector_model
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (tenant, store, item_id) DO UPDATE SET
    fields = excluded.fields, words = excluded.words, source = excluded.source, confidence = excluded.confidence,
    updated_at = excluded.updated_at, valid_from = excluded.valid_from, valid_until = excluded.valid_until,
    from_id = excluded.from_id, to_id = excluded.to_id, task_id = excluded.task_id, vector = excluded.vector,
    vector_bits = excluded.vector_bits, vector_model = excluded.vector_model
RETURNING xmax = 0

-- name: add
INSERT INTO holdfast.memory_items (
    tenant, store, item_id, fields, scope, words, source, confidence, created_at, updated_at, valid_from, valid_until,
    from_id, to_id, task_id, vector, vector_bits, vector_model
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (tenant, store, item_id) DO NOTHING
RETURNING 1

-- name: merge
INSERT INTO holdfast.memory_items AS known (
    tenant, store, item_id, fields, scope, words, source, confidence, created_at, updated_at, valid_from, valid_until,
    from_id, to_id, task_id, vector, vector_bits, vector_model
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (tenant, store, item_id) DO UPDATE SET
    fields = excluded.fields, words = excluded.words, source = excluded.source, confidence = excluded.confidence,
    updated_at = excluded.updated_at, valid_from = excluded.valid_from, valid_until = excluded.valid_until,
    from_id = excluded.from_id, to_id = excluded.to_id, task_id = excluded.task_id, vector = excluded.vector,
    vector_bits = excluded.vector_bits, vector_model = excluded.vector_model
WHERE known.updated_at < excluded.updated_at
RETURNING xmax = 0

-- name: node
-- Held, so that it is not deleted before its new edge is there.
SELECT 1 FROM holdfast.memory_items
WHERE tenant = $1 AND store = 'social' AND item_id = $2 AND from_id IS NULL FOR KEY SHARE

-- name: delete
DELETE FROM holdfast.memory_items WHERE tenant = $1 AND store = $2 AND item_id = $3 RETURNING 1

-- name: delete_edges
DELETE FROM holdfast.memory_items WHERE id IN (
    SELECT id FROM holdfast.memory_items WHERE tenant = $1 AND from_id = $2 AND from_id IS NOT NULL
    UNION SELECT id FROM holdfast.memory_items WHERE tenant = $1 AND to_id = $2 AND to_id IS NOT NULL
)

-- name: item
SELECT {columns} FROM holdfast.memory_items WHERE tenant = $1 AND store = $2 AND item_id = $3

-- name: items
SELECT {columns} FROM holdfast.memory_items WHERE tenant = $1 AND store = $2
AND ($3::bigint IS NULL OR (created_at, item_id) < ($3, $4))
ORDER BY created_at DESC, item_id DESC LIMIT $5

-- name: items_of_task
SELECT {columns} FROM holdfast.memory_items WHERE tenant = $1 AND store = $2
AND task_id = $6 AND task_id IS NOT NULL AND ($3::bigint IS NULL OR (created_at, item_id) < ($3, $4))
ORDER BY created_at DESC, item_id DESC LIMIT $5

-- name: everything
SELECT {columns} FROM holdfast.memory_items WHERE tenant = $1 ORDER BY store, created_at, item_id

-- name: size
SELECT items, words FROM holdfast.memory_sizes WHERE scope = $1

-- name: sample
-- In how many of the newest items of a store each word is.
WITH sample AS MATERIALIZED (
    SELECT terms FROM holdfast.memory_items WHERE tenant = $1 AND store = $2 ORDER BY id DESC LIMIT $4
)
SELECT q.place, (SELECT count(*) FROM sample WHERE terms @@ q.query)
FROM unnest($3::text[]::tsquery[]) WITH ORDINALITY AS q (query, place)

-- name: having
SELECT count(*) FROM holdfast.memory_items WHERE terms @@ $1::text::tsquery

-- name: search
-- Candidates: the best by the weights of the words that they have, whatever their counts. The index is read once.
WITH asked AS MATERIALIZED (
    SELECT q.query, q.weight FROM unnest($2::text[]::tsquery[], $3::double precision[]) AS q (query, weight)
)
SELECT {columns} FROM holdfast.memory_items WHERE id IN (
    SELECT id FROM holdfast.memory_items i
    WHERE terms @@ $1::text::tsquery
    AND (valid_from IS NULL OR valid_from <= $4) AND (valid_until IS NULL OR valid_until > $4)
    ORDER BY (
        SELECT sum(asked.weight) FROM asked WHERE i.terms @@ asked.query
    ) / (1 + 0.9 * word_count / $5::double precision) DESC, updated_at DESC, item_id
    LIMIT $6
)

-- name: search_recent
-- The same among the newest items of a store, without the index.
WITH asked AS MATERIALIZED (
    SELECT q.query, q.weight FROM unnest($3::text[]::tsquery[], $4::double precision[]) AS q (query, weight)
), recent AS MATERIALIZED (
    SELECT * FROM holdfast.memory_items WHERE tenant = $1 AND store = $2 ORDER BY id DESC LIMIT $8
)
SELECT {columns} FROM recent i
WHERE terms @@ $7::text::tsquery
AND (valid_from IS NULL OR valid_from <= $5) AND (valid_until IS NULL OR valid_until > $5)
ORDER BY (
    SELECT sum(asked.weight) FROM asked WHERE i.terms @@ asked.query
) / (1 + 0.9 * word_count / $6::double precision) DESC, updated_at DESC, item_id
LIMIT $9

-- name: nearest
SELECT {columns} FROM holdfast.memory_items WHERE id IN (
    SELECT id FROM holdfast.memory_items WHERE tenant = $1 AND store = $2 AND vector_model = $3
    AND vector_model IS NOT NULL AND length(vector_bits) = length($4::bytea)
    AND (valid_from IS NULL OR valid_from <= $5) AND (valid_until IS NULL OR valid_until > $5)
    ORDER BY bit_count(('x' || encode(vector_bits, 'hex'))::varbit # ('x' || encode($4::bytea, 'hex'))::varbit), id
    LIMIT $6
)

-- name: souls
SELECT tenant, version, body, caller, created_at FROM holdfast.memory_souls WHERE tenant = $1
ORDER BY version DESC LIMIT $2

-- name: put_soul
INSERT INTO holdfast.memory_souls (tenant, version, body, caller, created_at)
SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (
    SELECT 1 FROM holdfast.memory_souls WHERE tenant = $1 AND version >= $2
) ON CONFLICT (tenant, version) DO NOTHING RETURNING 1

-- name: working
SELECT w.key, w.value FROM holdfast.working_memory w WHERE w.id IN (
    SELECT max(w.id) FROM holdfast.working_memory w LEFT JOIN holdfast.runs r ON r.number = w.number
    WHERE w.tenant = $1 AND w.thread_id = $2 AND r.superseded IS NOT TRUE
    AND NOT EXISTS (SELECT 1 FROM holdfast.messages m WHERE m.number = w.number AND m.superseded)
    GROUP BY w.key
) ORDER BY w.id

-- name: put_working
INSERT INTO holdfast.working_memory (tenant, thread_id, number, key, value, created_at)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: own_working
SELECT value FROM holdfast.working_memory
WHERE tenant = $1 AND thread_id = $2 AND key = $3 AND number = $4 ORDER BY id DESC LIMIT 1
