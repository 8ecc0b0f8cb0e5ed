-- Pages of segments come as one row: the facts as JSON, the bodies joined. Stepping from row to row hands Python's
-- global lock over each time, which beside a busy event loop costs more than all the rest (see procedures.sql).

-- name: run_columns
r.number, r.run_id, r.tenant, r.agent, r.agent_id, r.thread_id, r.parent, r.status, r.attempt, r.priority,
r.superseded, r.input, r.output, r.error, r.cancel, r.usage, r.caller, r.role, r.trust, r.metadata,
r.timeout_seconds, r.executed_seconds, r.created_at, r.started_at, r.ended_at, h.lease_owner, h.lease_epoch,
h.lease_until, r.epoch, r.epochs, r.first_sequence, h.tail_sequence, r.prior_hash, h.head_hash, h.last_timestamp

-- name: run_by_id
SELECT {run} FROM runs r JOIN heads h USING (number) WHERE r.tenant = ? AND r.run_id = ?

-- name: run_by_number
SELECT {run} FROM runs r JOIN heads h USING (number) WHERE r.number = ?

-- name: runs_by_number
SELECT {run} FROM json_each(?) given CROSS JOIN runs r ON r.number = given.value JOIN heads h USING (number)
ORDER BY given.key

-- name: runs
SELECT {run} FROM runs r JOIN heads h USING (number) WHERE {where} ORDER BY r.number DESC LIMIT ? OFFSET ?

-- name: count_runs
SELECT r.agent, r.status, count(*) FROM runs r WHERE {where} GROUP BY r.agent, r.status

-- name: asks_person
SELECT 1 FROM interrupts i WHERE i.number = r.number AND i.status = 'pending' AND i.kind IN ('question', 'approval')

-- name: counts
SELECT status, count(*) FROM runs WHERE status IN ('queued', 'running', 'waiting') GROUP BY status

-- name: unserved
SELECT {run} FROM runs r JOIN heads h USING (number)
WHERE r.status = 'queued' AND r.status IN ('queued', 'running', 'waiting') AND r.created_at < ? AND r.agent NOT IN (SELECT value FROM json_each(?))
ORDER BY r.number LIMIT 100

-- name: segments
WITH candidates AS (
    SELECT id, first AS place, length(body) AS size FROM segments
    WHERE number = :number
    AND first >= coalesce((SELECT max(first) FROM segments WHERE number = :number AND first <= :after + 1), 0)
    AND last > :after
    ORDER BY first LIMIT :limit
), page AS (
    SELECT id, place, size, sum(size) OVER (ORDER BY place) AS total FROM candidates
)
SELECT
    json_group_array(json_array(
        s.number, s.first, s.last, s.first_timestamp, s.last_timestamp, page.size, hex(s.hash), json(s.marks)
    ) ORDER BY page.place),
    CAST(group_concat(CAST(s.body AS TEXT), '' ORDER BY page.place) AS BLOB)
FROM page CROSS JOIN segments s USING (id) WHERE page.total <= :bytes_max OR page.total = page.size

-- name: segments_by_time
WITH candidates AS (
    SELECT id, first_timestamp AS place, length(body) AS size FROM segments
    WHERE tenant = :tenant AND first_timestamp > :begun_after AND last_timestamp > :after
    ORDER BY first_timestamp, id LIMIT :limit
), page AS (
    SELECT id, place, size, sum(size) OVER (ORDER BY place, id) AS total FROM candidates
)
SELECT
    json_group_array(json_array(
        s.number, s.first, s.last, s.first_timestamp, s.last_timestamp, page.size, hex(s.hash), json(s.marks)
    ) ORDER BY page.place, page.id),
    CAST(group_concat(CAST(s.body AS TEXT), '' ORDER BY page.place, page.id) AS BLOB)
FROM page CROSS JOIN segments s USING (id) WHERE page.total <= :bytes_max OR page.total = page.size

-- name: marks
SELECT
    json_group_array(json_array(
        number, first, last, first_timestamp, last_timestamp, 0, hex(hash), json(marks)
    ) ORDER BY first),
    x''
FROM segments WHERE number = ?

-- name: thread_runs_after
SELECT r.number, r.first_sequence, h.tail_sequence FROM runs r JOIN heads h USING (number)
WHERE r.tenant = ? AND r.thread_id = ? AND h.last_timestamp > ? ORDER BY r.number

-- name: segment_around
SELECT first, last, last_timestamp FROM segments WHERE number = ? AND first <= ? ORDER BY first DESC LIMIT 1

-- name: tails
SELECT h.number, h.tail_sequence, r.status FROM json_each(?) given
CROSS JOIN heads h ON h.number = given.value JOIN runs r USING (number)

-- name: steps
SELECT number, key, name, status, attempts, at_most_once, started_at, completed_at, output, error, sequence, reused
FROM steps WHERE number = ? ORDER BY started_at, id

-- name: interrupt_columns
i.interrupt_id, i.number, i.kind, i.status, i.step, i.question, i.choices, i.reason, i.tool, i.tool_call_id, i.input,
i.rule, i.input_hash, i.round, i.answer_role, i.created_at, i.resolved_at, i.sequence, i.resolved_sequence,
p.tool_call_id, p.tool, p.namespace, p.input, p.expires_at, p.on_expiry, p."default", p.answer, p."by", p.caller,
p.answered_at, p.claim_worker, p.claim_number, p.claim_until

-- name: interrupts
SELECT {interrupt} FROM interrupts i JOIN interrupt_parts p USING (number, interrupt_id)
WHERE i.number = ? ORDER BY i.id, p.id

-- name: pending
SELECT {interrupt} FROM (
    SELECT * FROM interrupts
    WHERE status = 'pending' AND tenant = :tenant AND kind IN ('question', 'approval')
    AND (:thread_id IS NULL OR thread_id = :thread_id)
    ORDER BY created_at, id LIMIT :limit
) i JOIN interrupt_parts p USING (number, interrupt_id) ORDER BY i.created_at, i.id, p.id

-- name: last_resolved
SELECT {interrupt} FROM (
    SELECT * FROM interrupts AS found
    WHERE status = 'resolved' AND tenant = ? AND thread_id = ? AND kind IN ('question', 'approval')
    AND EXISTS (
        SELECT 1 FROM interrupt_parts
        WHERE number = found.number AND interrupt_id = found.interrupt_id AND answer IS NOT NULL
    )
    ORDER BY resolved_at DESC, id DESC LIMIT 1
) i JOIN interrupt_parts p USING (number, interrupt_id) ORDER BY p.id

-- name: due
SELECT {interrupt} FROM (
    SELECT number, interrupt_id, min(expires_at) AS deadline FROM (
        SELECT number, interrupt_id, expires_at FROM interrupt_parts
        WHERE is_open AND expires_at IS NOT NULL AND expires_at <= ? ORDER BY expires_at
    ) GROUP BY number, interrupt_id ORDER BY deadline LIMIT ?
) d JOIN interrupts i USING (number, interrupt_id) JOIN interrupt_parts p USING (number, interrupt_id)
ORDER BY d.deadline, i.id, p.id

-- name: inbox
SELECT inbox_id, number, kind, interrupt_id, tool_call_id, answer, "by", caller, reason, created_at
FROM inbox WHERE number IN (SELECT value FROM json_each(?)) ORDER BY inbox_id

-- name: thread_columns
t.tenant, t.thread_id, t.agent, t.active, t.created_at, t.updated_at,
max(t.last_timestamp, coalesce((SELECT last_timestamp FROM heads WHERE number = t.active), 0))

-- name: thread
SELECT {thread} FROM threads t WHERE t.tenant = ? AND t.thread_id = ?

-- name: threads
SELECT {thread} FROM threads t
WHERE t.tenant = :tenant AND (:updated_at IS NULL OR (t.updated_at, t.thread_id) < (:updated_at, :thread_id))
ORDER BY t.updated_at DESC, t.thread_id DESC LIMIT :limit

-- name: pruned_until
SELECT coalesce(max(pruned_timestamp), 0) FROM threads
WHERE tenant = :tenant AND pruned_timestamp > 0 AND (:thread_id IS NULL OR thread_id = :thread_id)

-- name: messages
SELECT message_id, number, role, content, media, detail, created_at, superseded FROM messages
WHERE tenant = :tenant AND thread_id = :thread_id AND (:superseded OR NOT superseded)
ORDER BY id LIMIT :limit OFFSET :after

-- name: idempotency
SELECT tenant, method, path, key, fingerprint, number, status, body, created_at, expires_at FROM idempotency
WHERE tenant = ? AND method = ? AND path = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)

-- name: keys
SELECT name, hash, role, tenant, created_at, revoked_at FROM api_keys ORDER BY name, id

-- name: file
SELECT file_id, tenant, number, name, media_type, size, sha256, created_at FROM files WHERE tenant = ? AND file_id = ?

-- name: outbox
SELECT endpoint_id, number, sequence, created_at FROM outbox ORDER BY id LIMIT ?

-- name: meta
SELECT value FROM meta WHERE key = ?
