-- Columns bear the names of the structs' fields.

-- name: run_columns
r.number, r.run_id, r.tenant, r.agent, r.agent_id, r.thread_id, r.parent, r.status, r.attempt, r.priority,
r.superseded, r.input, r.output, r.error, r.cancel, r.usage, r.caller, r.role, r.trust, r.metadata,
r.timeout_seconds, r.executed_seconds, r.created_at, r.started_at, r.ended_at, h.lease_owner, h.lease_epoch,
h.lease_until, r.epoch, r.epochs, r.first_sequence, h.tail_sequence, r.prior_hash, h.head_hash, h.last_timestamp

-- name: run_by_id
SELECT {run} FROM holdfast.runs r JOIN holdfast.heads h USING (number) WHERE r.tenant = $1 AND r.run_id = $2

-- name: run_by_number
SELECT {run} FROM holdfast.runs r JOIN holdfast.heads h USING (number) WHERE r.number = $1

-- name: runs_by_number
SELECT {run} FROM unnest($1::bigint[]) WITH ORDINALITY AS given (number, place)
JOIN holdfast.runs r USING (number) JOIN holdfast.heads h USING (number) ORDER BY given.place

-- name: runs
SELECT {run} FROM holdfast.runs r JOIN holdfast.heads h USING (number) WHERE {where} ORDER BY r.number DESC LIMIT {limit} OFFSET {offset}

-- name: count_runs
SELECT r.agent, r.status, count(*) FROM holdfast.runs r WHERE {where} GROUP BY r.agent, r.status

-- name: asks_person
SELECT 1 FROM holdfast.interrupts i WHERE i.number = r.number AND i.status = 'pending' AND i.kind IN ('question', 'approval')

-- name: counts
SELECT status, count(*) FROM holdfast.runs WHERE status IN ('queued', 'running', 'waiting') GROUP BY status

-- name: unserved
SELECT {run} FROM holdfast.runs r JOIN holdfast.heads h USING (number)
WHERE r.status = 'queued' AND r.created_at < $1 AND r.agent <> ALL ($2::text[]) AND NOT EXISTS (
    SELECT 1 FROM holdfast.processes p
    WHERE p.owner IS NOT NULL AND r.agent = ANY (p.agents)
    AND p.seen_at > holdfast.lease_clock() - holdfast.away_seconds_1()
)
ORDER BY r.number LIMIT 100

-- name: segment_columns
number, first, last, first_timestamp, last_timestamp, body, hash, marks

-- name: segments
SELECT {segment} FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY first) AS total FROM (
        SELECT * FROM holdfast.segments
        WHERE number = $1 AND last > $2 AND first >= coalesce((
            SELECT max(first) FROM holdfast.segments WHERE number = $1 AND first <= $2 + 1
        ), 0)
        ORDER BY first LIMIT $4
    ) candidates
) page WHERE total <= $3 OR total = octet_length(body) ORDER BY first

-- name: segments_by_time
-- In the order of their beginnings, and only as far as nobody still commits one that begins earlier.
-- Those that begin at the same moment stay together, because the next page begins behind that moment.
WITH common AS MATERIALIZED (
    SELECT coalesce(holdfast.common_floor_1(), 9223372036854775807) AS floor
), span AS MATERIALIZED (
    SELECT greatest(
        (SELECT max(span_max) FROM holdfast.processes),
        (SELECT value::bigint FROM holdfast.meta WHERE key = 'span_max')
    ) AS longest
), page AS (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY first_timestamp) AS total, min(first_timestamp) OVER () AS begin
    FROM (
        SELECT * FROM holdfast.segments
        WHERE tenant = $1 AND last_timestamp > $2 AND first_timestamp <= (SELECT floor FROM common)
        AND first_timestamp > greatest($3, $2 - (SELECT coalesce(longest, 0) FROM span))
        ORDER BY first_timestamp FETCH FIRST $5 ROWS WITH TIES
    ) found
)
SELECT {segment} FROM page WHERE total <= $4 OR first_timestamp = begin ORDER BY first_timestamp, number, first

-- name: common_floor
SELECT holdfast.common_floor_1()

-- name: segments_of_thread
-- The runs of a thread follow each other, so their segments in the order of runs are in the order of time.
SELECT {segment} FROM (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY number, first) AS total FROM (
        SELECT s.* FROM holdfast.runs r JOIN holdfast.heads h USING (number) CROSS JOIN LATERAL (
            SELECT * FROM holdfast.segments
            WHERE number = r.number AND first > holdfast.last_before_1(r.number, r.first_sequence, h.tail_sequence, $3)
            ORDER BY first LIMIT $5
        ) s
        WHERE r.tenant = $1 AND r.thread_id = $2 AND h.last_timestamp > $3
        ORDER BY r.number, s.first LIMIT $5
    ) candidates
) page WHERE total <= $4 OR total = octet_length(body) ORDER BY number, first

-- name: marks
SELECT number, first, last, first_timestamp, last_timestamp, ''::bytea AS body, hash, marks
FROM holdfast.segments WHERE number = $1 ORDER BY first

-- name: tails
SELECT h.number, h.tail_sequence, r.status FROM unnest($1::bigint[]) AS given (number)
JOIN holdfast.heads h USING (number) JOIN holdfast.runs r USING (number)

-- name: growth
SELECT h.number, s.first, s.last, s.first_timestamp, s.last_timestamp,
CASE WHEN sum(octet_length(s.body)) OVER (ORDER BY h.number, s.first) <= $3 THEN s.body END AS body,
s.hash, s.marks, h.tail_sequence, h.is_over
FROM unnest($1::bigint[], $2::bigint[]) AS given (number, after) JOIN holdfast.heads h USING (number)
LEFT JOIN LATERAL (
    SELECT * FROM holdfast.segments WHERE number = given.number AND first > given.after ORDER BY first LIMIT $4
) s ON h.tail_sequence > given.after
WHERE h.tail_sequence > given.after OR h.is_over ORDER BY h.number, s.first

-- name: steps
SELECT number, key, name, status, attempts, at_most_once, started_at, completed_at, output, error, sequence, reused
FROM holdfast.steps WHERE number = $1 ORDER BY started_at, id

-- name: interrupt_columns
i.interrupt_id, i.number, i.kind, i.status, i.step, i.question, i.choices, i.reason, i.tool, i.tool_call_id, i.input,
i.rule, i.input_hash, i.round, i.answer_role, i.created_at, i.resolved_at, i.sequence, i.resolved_sequence,
p.tool_call_id, p.tool, p.namespace, p.input, p.expires_at, p.on_expiry, p."default", p.answer, p."by", p.caller,
p.answered_at, p.claim_worker, p.claim_number, p.claim_until

-- name: interrupts
SELECT {interrupt} FROM holdfast.interrupts i JOIN holdfast.interrupt_parts p USING (number, interrupt_id)
WHERE i.number = $1 ORDER BY i.id, p.id

-- name: pending
SELECT {interrupt} FROM (
    SELECT * FROM holdfast.interrupts
    WHERE status = 'pending' AND tenant = $1 AND kind IN ('question', 'approval')
    AND ($2::text IS NULL OR thread_id = $2)
    ORDER BY created_at, id LIMIT $3
) i JOIN holdfast.interrupt_parts p USING (number, interrupt_id) ORDER BY i.created_at, i.id, p.id

-- name: last_resolved
SELECT {interrupt} FROM (
    SELECT * FROM holdfast.interrupts AS found
    WHERE status = 'resolved' AND tenant = $1 AND thread_id = $2 AND kind IN ('question', 'approval')
    AND EXISTS (
        SELECT 1 FROM holdfast.interrupt_parts
        WHERE number = found.number AND interrupt_id = found.interrupt_id AND answer IS NOT NULL
    )
    ORDER BY resolved_at DESC NULLS LAST, id DESC LIMIT 1
) i JOIN holdfast.interrupt_parts p USING (number, interrupt_id) ORDER BY p.id

-- name: due
SELECT {interrupt} FROM (
    SELECT number, interrupt_id, min(expires_at) AS deadline FROM holdfast.interrupt_parts
    WHERE is_open AND expires_at IS NOT NULL AND expires_at <= $1
    GROUP BY number, interrupt_id ORDER BY deadline LIMIT $2
) d JOIN holdfast.interrupts i USING (number, interrupt_id)
JOIN holdfast.interrupt_parts p USING (number, interrupt_id) ORDER BY d.deadline, i.id, p.id

-- name: inbox
SELECT inbox_id, number, kind, interrupt_id, tool_call_id, answer, "by", caller, reason, created_at
FROM holdfast.inbox WHERE number = ANY ($1::bigint[]) ORDER BY inbox_id

-- name: is_claimable
-- Whether a claim would find anything: a look that writes nothing and waits for nobody.
SELECT EXISTS (
    SELECT 1 FROM holdfast.runs r JOIN holdfast.heads h USING (number)
    WHERE r.status = 'queued' AND r.agent = ANY ($2::text[])
    AND (h.lease_owner IS NULL OR h.lease_owner <> $1 AND h.lease_until <= holdfast.lease_clock())
) OR EXISTS (
    SELECT 1 FROM holdfast.heads h JOIN holdfast.runs r USING (number)
    WHERE h.lease_owner >= '' AND h.lease_owner <> $1 AND h.lease_until <= holdfast.lease_clock()
    AND r.agent = ANY ($2::text[])
) OR EXISTS (
    SELECT 1 FROM holdfast.inbox i JOIN holdfast.heads h USING (number) JOIN holdfast.runs r USING (number)
    WHERE h.lease_owner IS NULL AND r.status = 'waiting' AND r.agent = ANY ($2::text[])
)

-- name: is_claimable_within
-- The same where limits have to be counted.
SELECT EXISTS (SELECT 1 FROM holdfast.choose_2($1, $2::text[], $3::integer[], $4, 1))

-- name: thread_columns
t.tenant, t.thread_id, t.agent, t.active, t.created_at, t.updated_at, greatest(
    t.last_timestamp, (SELECT last_timestamp FROM holdfast.heads WHERE number = t.active)
) AS last_timestamp

-- name: thread
SELECT {thread} FROM holdfast.threads t WHERE t.tenant = $1 AND t.thread_id = $2

-- name: threads
SELECT {thread} FROM holdfast.threads t
WHERE t.tenant = $1 AND ($2::bigint IS NULL OR (t.updated_at, t.thread_id) < ($2, $3::text))
ORDER BY t.updated_at DESC, t.thread_id DESC LIMIT $4

-- name: messages
SELECT message_id, number, role, content, media, detail, created_at, superseded FROM holdfast.messages
WHERE tenant = $1 AND thread_id = $2 AND ($3 OR NOT superseded)
ORDER BY id OFFSET $4 LIMIT $5

-- name: pruned_until
SELECT coalesce(max(pruned_timestamp), 0) FROM holdfast.threads
WHERE tenant = $1 AND pruned_timestamp > 0 AND ($2::text IS NULL OR thread_id = $2)

-- name: idempotency
SELECT tenant, method, path, key, fingerprint, number, status, body, created_at, expires_at FROM holdfast.idempotency
WHERE tenant = $1 AND method = $2 AND md5(path) = md5($3) AND path = $3 AND key = $4
AND (expires_at IS NULL OR expires_at > $5)

-- name: keys
SELECT name, hash, role, tenant, created_at, revoked_at FROM holdfast.api_keys ORDER BY name, id

-- name: file
SELECT file_id, tenant, number, name, media_type, size, sha256, created_at
FROM holdfast.files WHERE tenant = $1 AND file_id = $2

-- name: content
SELECT body FROM holdfast.content_pieces WHERE sha256 = $1 ORDER BY place

-- name: outbox
SELECT endpoint_id, number, sequence, created_at FROM holdfast.outbox ORDER BY id LIMIT $1

-- name: meta
SELECT value FROM holdfast.meta WHERE key = $1

-- name: newest
SELECT greatest(
    (SELECT max(newest) FROM holdfast.processes),
    (SELECT value::bigint FROM holdfast.meta WHERE key = 'newest'), 0
)
