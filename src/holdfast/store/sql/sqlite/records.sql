-- name: put_record
INSERT INTO records (kind, tenant, name, number, body, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (kind, tenant, name) DO UPDATE SET
    number = excluded.number, body = excluded.body, updated_at = excluded.updated_at

-- name: record
SELECT kind, tenant, name, number, body, created_at, updated_at FROM records WHERE kind = ? AND tenant = ? AND name = ?

-- name: records
SELECT kind, tenant, name, number, body, created_at, updated_at FROM records
WHERE kind = :kind AND (:tenant IS NULL OR tenant = :tenant) AND (:number IS NULL OR number = :number) ORDER BY id

-- name: swap_record
UPDATE records SET number = ?, body = ?, updated_at = ? WHERE kind = ? AND tenant = ? AND name = ? AND body = ?

-- name: delete_record
DELETE FROM records WHERE kind = ? AND tenant = ? AND name = ?

-- name: prune_loose
DELETE FROM records WHERE kind = ? AND number IS NULL AND created_at < ?

-- name: put_new_delivery
INSERT INTO deliveries (
    delivery_id, endpoint_id, tenant, event_id, type, number, sequence, status, body, attempts, tries, next_attempt_at,
    locked_until, created_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT DO NOTHING

-- name: due_endpoints
-- Found by a step for each endpoint that has anything pending, however much that is; whoever waits longest comes first.
WITH RECURSIVE endpoints (endpoint_id) AS (
    SELECT min(endpoint_id) FROM deliveries WHERE status = 'pending'
    UNION ALL
    SELECT (SELECT min(endpoint_id) FROM deliveries WHERE status = 'pending' AND endpoint_id > e.endpoint_id)
    FROM endpoints e WHERE e.endpoint_id IS NOT NULL
), due (endpoint_id, since) AS (
    SELECT endpoint_id, (
        SELECT next_attempt_at FROM deliveries d
        WHERE d.status = 'pending' AND d.endpoint_id = e.endpoint_id AND d.next_attempt_at <= :now
        AND d.locked_until <= :now
        ORDER BY d.next_attempt_at LIMIT 1
    ) FROM endpoints e WHERE endpoint_id IS NOT NULL
)
SELECT endpoint_id FROM due WHERE since IS NOT NULL ORDER BY since

-- name: take_deliveries
UPDATE deliveries SET locked_until = :until WHERE id IN (
    SELECT id FROM deliveries
    WHERE status = 'pending' AND endpoint_id = :endpoint_id AND next_attempt_at <= :now AND locked_until <= :now
    ORDER BY next_attempt_at, id LIMIT min(:limit, max(0, :endpoint_max - (
        SELECT count(*) FROM deliveries WHERE endpoint_id = :endpoint_id AND locked_until > :now
    )))
) RETURNING delivery_id, endpoint_id, tenant, event_id, type, number, sequence, status, body, attempts, tries,
    next_attempt_at, created_at

-- name: keep_deliveries
UPDATE deliveries SET locked_until = ?
WHERE locked_until > 0 AND delivery_id IN (SELECT value FROM json_each(?))

-- name: put_delivery
UPDATE deliveries SET
    status = CASE
        WHEN status = 'held' AND :status = 'pending' THEN status
        WHEN status = 'pending' AND next_attempt_at <> :due THEN status
        ELSE :status
    END,
    tries = CASE WHEN status = 'pending' AND next_attempt_at <> :due THEN tries ELSE :tries END,
    next_attempt_at = CASE
        WHEN status = 'pending' AND next_attempt_at <> :due THEN next_attempt_at ELSE :next_attempt_at
    END,
    attempts = :attempts, locked_until = 0
WHERE delivery_id = :delivery_id

-- name: deliveries
SELECT delivery_id, endpoint_id, tenant, event_id, type, number, sequence, status, body, attempts, tries,
    next_attempt_at, created_at
FROM deliveries
WHERE endpoint_id = :endpoint_id AND (:status IS NULL OR status = :status) AND (:number IS NULL OR number = :number)
    AND (:before IS NULL OR id < (SELECT id FROM deliveries WHERE delivery_id = :before))
ORDER BY id DESC LIMIT :limit

-- name: replay_deliveries
-- Not those of no run: a test is one attempt.
UPDATE deliveries SET status = 'pending', tries = 0, next_attempt_at = :now
WHERE endpoint_id = :endpoint_id AND number > 0 AND (:status IS NULL OR status = :status)
    AND (:event_ids IS NULL OR event_id IN (SELECT value FROM json_each(:event_ids)))
    AND (:since IS NULL OR created_at >= :since) AND (:until IS NULL OR created_at < :until)

-- name: hold_deliveries
UPDATE deliveries SET status = 'held', next_attempt_at = NULL WHERE endpoint_id = ? AND status = 'pending'

-- name: prune_deliveries
DELETE FROM deliveries WHERE created_at < ?

-- name: attach_files
UPDATE files SET number = :number
WHERE tenant = :tenant AND file_id IN (SELECT value FROM json_each(:file_ids)) AND number IS NULL
