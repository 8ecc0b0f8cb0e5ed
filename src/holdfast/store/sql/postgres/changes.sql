-- name: announce
SELECT new_floor, has_joined FROM holdfast.announce_1($1, $2, $3::text[], $4, $5)

-- name: commit
SELECT holdfast.commit_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)

-- name: claim
SELECT holdfast.claim_2($1, $2, $3, $4::text[], $5::integer[], $6, $7, $8)

-- name: settle
SELECT was_done, known FROM holdfast.settle_1($1, $2)

-- name: renew
WITH held AS (
    SELECT h.number FROM unnest($1::bigint[], $2::bigint[]) AS lease (number, lease_epoch)
    JOIN holdfast.heads h USING (number, lease_epoch)
    WHERE h.lease_owner = $3 AND NOT h.is_over ORDER BY h.number FOR NO KEY UPDATE OF h
)
UPDATE holdfast.heads h SET lease_until = holdfast.lease_clock() + $4
FROM held WHERE h.number = held.number AND h.lease_owner = $3 RETURNING h.number

-- name: disown
UPDATE holdfast.heads SET lease_owner = ''
WHERE lease_owner = $1 AND lease_until <= holdfast.lease_clock() AND NOT is_over AND number <> ALL ($2::bigint[])
RETURNING number

-- name: enter
INSERT INTO holdfast.processes (process, seen_at) VALUES ($1, holdfast.lease_clock()) ON CONFLICT DO NOTHING

-- name: leave
-- What only the row of a process knows is kept before it goes.
WITH gone AS (
    DELETE FROM holdfast.processes WHERE process = $1 OR seen_at < holdfast.lease_clock() - $2 RETURNING newest, span_max
)
INSERT INTO holdfast.meta AS known (key, value)
SELECT 'newest', max(newest)::text FROM gone HAVING count(*) > 0
UNION ALL
SELECT 'span_max', max(span_max)::text FROM gone HAVING count(*) > 0
ON CONFLICT (key) DO UPDATE SET value = greatest(known.value::bigint, excluded.value::bigint)::text

-- name: notify
SELECT pg_notify('holdfast', $1)

-- name: idempotency_expired
DELETE FROM holdfast.idempotency
WHERE tenant = $1 AND method = $2 AND md5(path) = md5($3) AND path = $3 AND key = $4 AND expires_at <= $5

-- name: idempotency_begin
INSERT INTO holdfast.idempotency (
    tenant, method, path, key, fingerprint, number, status, body, created_at, expires_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING RETURNING id

-- name: idempotency_finish
INSERT INTO holdfast.idempotency (
    tenant, method, path, key, fingerprint, number, status, body, created_at, expires_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (tenant, method, md5(path), key) DO UPDATE SET
    number = excluded.number, status = excluded.status, body = excluded.body, expires_at = excluded.expires_at

-- name: idempotency_forget
DELETE FROM holdfast.idempotency
WHERE tenant = $1 AND method = $2 AND md5(path) = md5($3) AND path = $3 AND key = $4 AND status = 0 AND number IS NULL

-- name: add_key
INSERT INTO holdfast.api_keys (name, hash, role, tenant, created_at, revoked_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING RETURNING id

-- name: has_key
SELECT EXISTS (SELECT 1 FROM holdfast.api_keys WHERE name = $1 AND hash = $2 AND revoked_at IS NULL)

-- name: revoke_key
UPDATE holdfast.api_keys SET revoked_at = $1 WHERE name = $2 AND revoked_at IS NULL RETURNING id

-- name: was_revoked
SELECT EXISTS (SELECT 1 FROM holdfast.api_keys WHERE name = $2 AND revoked_at = $1)

-- name: put_content
-- The row is locked until the file has it, so that no sweep takes it away; whether it is new comes back.
INSERT INTO holdfast.contents (sha256, size) VALUES ($1, $2)
ON CONFLICT (sha256) DO UPDATE SET size = excluded.size RETURNING xmax = 0

-- name: put_piece
INSERT INTO holdfast.content_pieces (sha256, place, body) VALUES ($1, $2, $3)

-- name: put_file
INSERT INTO holdfast.files (tenant, file_id, number, name, media_type, size, sha256, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant, file_id) DO UPDATE SET
    number = excluded.number, name = excluded.name, media_type = excluded.media_type, size = excluded.size,
    sha256 = excluded.sha256, created_at = excluded.created_at

-- name: outbox_done
DELETE FROM holdfast.outbox o
USING unnest($1::bigint[], $2::bigint[], $3::text[]) AS done (number, sequence, endpoint_id)
WHERE o.number = done.number AND o.sequence = done.sequence AND o.endpoint_id = done.endpoint_id

-- name: set_meta_once
INSERT INTO holdfast.meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING

-- name: set_meta
INSERT INTO holdfast.meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: claim_calls
UPDATE holdfast.interrupt_parts SET
    claim_number = claim_number + CASE WHEN claim_worker IS DISTINCT FROM $2 THEN 1 ELSE 0 END,
    claim_worker = $2, claim_until = $5
WHERE number = $1 AND is_open AND answer IS NULL AND tool_call_id = ANY ($3::text[])
    AND (claim_worker IS NOT DISTINCT FROM $2 OR ($5::bigint > $4::bigint AND (claim_until IS NULL OR claim_until <= $4)))
RETURNING tool_call_id
