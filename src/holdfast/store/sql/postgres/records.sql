-- name: put_records
INSERT INTO holdfast.records (kind, tenant, name, number, body, created_at, updated_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[], $6::bigint[], $7::bigint[])
ON CONFLICT (kind, tenant, md5(name)) DO UPDATE SET
    number = excluded.number, body = excluded.body, updated_at = excluded.updated_at

-- name: record
SELECT kind, tenant, name, number, body, created_at, updated_at FROM holdfast.records
WHERE kind = $1 AND tenant = $2 AND md5(name) = md5($3) AND name = $3

-- name: records
SELECT kind, tenant, name, number, body, created_at, updated_at FROM holdfast.records
WHERE kind = $1 AND ($2::text IS NULL OR tenant = $2) AND ($3::bigint IS NULL OR number = $3) ORDER BY id

-- name: swap_record
UPDATE holdfast.records SET number = $1, body = $2, updated_at = $3
WHERE kind = $4 AND tenant = $5 AND md5(name) = md5($6) AND name = $6 AND body = $7 RETURNING 1

-- name: delete_record
DELETE FROM holdfast.records WHERE kind = $1 AND tenant = $2 AND md5(name) = md5($3) AND name = $3 RETURNING 1

-- name: prune_loose
DELETE FROM holdfast.records WHERE kind = $1 AND number IS NULL AND created_at < $2 RETURNING 1

-- name: put_new_deliveries
INSERT INTO holdfast.deliveries (
    delivery_id, endpoint_id, tenant, event_id, type, number, sequence, status, body, attempts, tries, next_attempt_at,
    locked_until, created_at
)
SELECT x.delivery_id, x.endpoint_id, x.tenant, x.event_id, x.type, x.number, x.sequence, x.status, x.body, x.attempts,
    x.tries, x.next_attempt_at, 0, x.created_at
FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::bytea[],
    $10::bytea[], $11::bigint[], $12::bigint[], $13::bigint[]
) AS x (
    delivery_id, endpoint_id, tenant, event_id, type, number, sequence, status, body, attempts, tries, next_attempt_at,
    created_at
) ON CONFLICT DO NOTHING

-- name: is_due
-- Found by a step for each endpoint that has anything pending, however much that is.
WITH RECURSIVE endpoints (endpoint_id) AS (
    SELECT min(endpoint_id) FROM holdfast.deliveries WHERE status = 'pending'
    UNION ALL
    SELECT (SELECT min(d.endpoint_id) FROM holdfast.deliveries d WHERE d.status = 'pending' AND d.endpoint_id > e.endpoint_id)
    FROM endpoints e WHERE e.endpoint_id IS NOT NULL
)
SELECT EXISTS (
    SELECT 1 FROM endpoints e CROSS JOIN LATERAL (
        SELECT 1 FROM holdfast.deliveries d
        WHERE d.status = 'pending' AND d.endpoint_id = e.endpoint_id AND d.next_attempt_at <= $1 AND d.locked_until <= $1
        LIMIT 1
    ) due
)

-- name: take_lock
-- Those who take at the same time would not see what the other one takes of an endpoint.
SELECT pg_advisory_xact_lock(4712895173263741273)

-- name: take_deliveries
WITH RECURSIVE endpoints (endpoint_id) AS (
    SELECT min(endpoint_id) FROM holdfast.deliveries WHERE status = 'pending'
    UNION ALL
    SELECT (SELECT min(d.endpoint_id) FROM holdfast.deliveries d WHERE d.status = 'pending' AND d.endpoint_id > e.endpoint_id)
    FROM endpoints e WHERE e.endpoint_id IS NOT NULL
), due AS (
    SELECT due.id FROM endpoints e CROSS JOIN LATERAL (
        SELECT d.id, d.next_attempt_at FROM holdfast.deliveries d
        WHERE d.status = 'pending' AND d.endpoint_id = e.endpoint_id AND d.next_attempt_at <= $1 AND d.locked_until <= $1
        ORDER BY d.next_attempt_at, d.id LIMIT greatest(0, $4 - (
            SELECT count(*) FROM holdfast.deliveries b
            WHERE b.endpoint_id = e.endpoint_id AND b.locked_until > 0 AND b.locked_until > $1
        ))
    ) due WHERE e.endpoint_id IS NOT NULL ORDER BY due.next_attempt_at, due.id LIMIT $3
)
UPDATE holdfast.deliveries d SET locked_until = $2 FROM due WHERE d.id = due.id
RETURNING d.delivery_id, d.endpoint_id, d.tenant, d.event_id, d.type, d.number, d.sequence, d.status, d.body, d.attempts,
    d.tries, d.next_attempt_at, d.created_at

-- name: keep_deliveries
UPDATE holdfast.deliveries SET locked_until = $1 WHERE locked_until > 0 AND delivery_id = ANY ($2::text[])

-- name: put_delivery
UPDATE holdfast.deliveries SET
    status = CASE
        WHEN status = 'held' AND $2 = 'pending' THEN status
        WHEN status = 'pending' AND next_attempt_at <> $6::bigint THEN status
        ELSE $2
    END,
    tries = CASE WHEN status = 'pending' AND next_attempt_at <> $6::bigint THEN tries ELSE $4 END,
    next_attempt_at = CASE WHEN status = 'pending' AND next_attempt_at <> $6::bigint THEN next_attempt_at ELSE $5 END,
    attempts = $3, locked_until = 0
WHERE delivery_id = $1

-- name: deliveries
SELECT delivery_id, endpoint_id, tenant, event_id, type, number, sequence, status, body, attempts, tries,
    next_attempt_at, created_at
FROM holdfast.deliveries
WHERE endpoint_id = $1 AND ($2::text IS NULL OR status = $2) AND ($3::bigint IS NULL OR number = $3)
    AND ($4::text IS NULL OR id < (SELECT id FROM holdfast.deliveries WHERE delivery_id = $4))
ORDER BY id DESC LIMIT $5

-- name: replay_deliveries
-- Not those of no run: a test is one attempt.
UPDATE holdfast.deliveries SET status = 'pending', tries = 0, next_attempt_at = $2
WHERE endpoint_id = $1 AND number > 0 AND ($3::text[] IS NULL OR event_id = ANY ($3)) AND ($4::text IS NULL OR status = $4)
    AND ($5::bigint IS NULL OR created_at >= $5) AND ($6::bigint IS NULL OR created_at < $6)
RETURNING 1

-- name: hold_deliveries
UPDATE holdfast.deliveries SET status = 'held', next_attempt_at = NULL
WHERE endpoint_id = $1 AND status = 'pending' RETURNING 1

-- name: prune_deliveries
WITH gone AS (DELETE FROM holdfast.deliveries WHERE created_at < $1 RETURNING 1) SELECT count(*) FROM gone

-- name: attach_files
UPDATE holdfast.files SET number = $3 WHERE tenant = $1 AND file_id = ANY ($2::text[]) AND number IS NULL
