-- name: append
INSERT INTO appends VALUES {rows}

-- name: change
INSERT INTO changes VALUES {rows}

-- name: start
INSERT INTO starts VALUES {rows}

-- name: steps
INSERT INTO steps (
    number, key, name, status, attempts, at_most_once, started_at, completed_at, output, error, sequence, reused
) VALUES {rows}
ON CONFLICT (number, key) DO UPDATE SET
    name = excluded.name, status = excluded.status, attempts = excluded.attempts,
    at_most_once = excluded.at_most_once, started_at = excluded.started_at, completed_at = excluded.completed_at,
    output = excluded.output, error = excluded.error, sequence = excluded.sequence, reused = excluded.reused

-- name: interrupts
WITH given (
    number, interrupt_id, kind, status, step, question, choices, reason, tool, tool_call_id, input, rule, input_hash,
    round, answer_role, created_at, resolved_at, sequence, resolved_sequence
) AS (VALUES {rows})
INSERT INTO interrupts (
    tenant, thread_id,
    number, interrupt_id, kind, status, step, question, choices, reason, tool, tool_call_id, input, rule, input_hash,
    round, answer_role, created_at, resolved_at, sequence, resolved_sequence
)
SELECT runs.tenant, runs.thread_id, given.* FROM given JOIN runs USING (number) WHERE true
ON CONFLICT (number, interrupt_id) DO UPDATE SET
    kind = excluded.kind, status = excluded.status, step = excluded.step, question = excluded.question,
    choices = excluded.choices, reason = excluded.reason, tool = excluded.tool, tool_call_id = excluded.tool_call_id,
    input = excluded.input, rule = excluded.rule, input_hash = excluded.input_hash, round = excluded.round,
    answer_role = excluded.answer_role, created_at = excluded.created_at, resolved_at = excluded.resolved_at,
    sequence = excluded.sequence, resolved_sequence = excluded.resolved_sequence

-- name: parts
INSERT INTO interrupt_parts (
    number, interrupt_id, tool_call_id, tool, namespace, input, expires_at, on_expiry, "default", answer, "by", caller,
    answered_at, claim_worker, claim_number, claim_until, is_open
) VALUES {rows}
ON CONFLICT (number, interrupt_id, tool_call_id) DO NOTHING

-- name: close_parts
UPDATE interrupt_parts SET is_open = 0 WHERE number = ? AND interrupt_id = ? AND is_open

-- name: answer_part
UPDATE interrupt_parts SET answer = ?, "by" = ?, caller = ?, answered_at = ?, is_open = 0
WHERE number = ? AND interrupt_id = ? AND tool_call_id = ? AND answer IS NULL

-- name: part_answer
SELECT i.status, p.answer, p."by", i.kind
FROM interrupt_parts p JOIN interrupts i USING (number, interrupt_id)
WHERE p.number = ? AND p.interrupt_id = ? AND p.tool_call_id = ?

-- name: messages
WITH given (message_id, number, role, content, media, detail, created_at, superseded) AS (VALUES {rows})
INSERT INTO messages (tenant, thread_id, message_id, number, role, content, media, detail, created_at, superseded)
SELECT runs.tenant, runs.thread_id, given.* FROM given JOIN runs USING (number) WHERE runs.thread_id IS NOT NULL
ON CONFLICT (tenant, thread_id, message_id) DO UPDATE SET
    number = excluded.number, role = excluded.role, content = excluded.content, media = excluded.media,
    detail = excluded.detail, superseded = excluded.superseded

-- name: supersede_runs
UPDATE runs SET superseded = 1 WHERE tenant = ? AND number IN (SELECT value FROM json_each(?))

-- name: supersede_messages
UPDATE messages SET superseded = 1 WHERE tenant = ? AND number IN (SELECT value FROM json_each(?))

-- name: outbox
INSERT OR IGNORE INTO outbox (endpoint_id, number, sequence, created_at) VALUES {rows}

-- name: has_endpoints
SELECT EXISTS (SELECT 1 FROM records WHERE kind IN ('endpoint', 'run_endpoint'))

-- name: outbox_done
DELETE FROM outbox WHERE id IN (
    SELECT o.id FROM json_each(?) row
    JOIN outbox o ON o.number = row.value ->> 0 AND o.sequence = row.value ->> 1 AND o.endpoint_id = row.value ->> 2
)

-- name: inbox
INSERT INTO inbox (number, kind, interrupt_id, tool_call_id, answer, "by", caller, reason, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: inbox_done
DELETE FROM inbox WHERE inbox_id IN (SELECT value FROM json_each(?))

-- name: head
SELECT h.is_over, h.lease_owner, h.lease_until, h.lease_epoch, h.tail_sequence, r.status, r.run_id
FROM heads h JOIN runs r USING (number) WHERE h.number = ?

-- name: active_of_thread
SELECT r.run_id, r.status FROM threads t JOIN runs r ON r.number = t.active WHERE t.tenant = ? AND t.thread_id = ?

-- name: newest_of_thread
SELECT last_timestamp FROM threads WHERE tenant = ? AND thread_id = ?

-- name: claimable
-- Of each tenant that has room as many as are asked for, then all in turns. `agents` are pairs of a name and its limit or
-- null. The conditions on the status repeat those of the indexes, so that these are used.
WITH RECURSIVE tenants (tenant) AS (
    SELECT min(tenant) FROM runs WHERE status = 'queued' AND status IN ('queued', 'running', 'waiting')
    UNION ALL
    SELECT (
        SELECT min(tenant) FROM runs
        WHERE status = 'queued' AND status IN ('queued', 'running', 'waiting') AND tenant > tenants.tenant
    ) FROM tenants WHERE tenants.tenant IS NOT NULL
), agents (name, most, busy) AS MATERIALIZED (
    SELECT value ->> 0, value ->> 1, CASE WHEN value ->> 1 IS NOT NULL THEN (
        SELECT count(*) FROM runs
        WHERE status = 'running' AND status IN ('queued', 'running', 'waiting') AND agent = value ->> 0
    ) END FROM json_each(:agents)
), shares (tenant, busy) AS MATERIALIZED (
    SELECT tenant, (
        SELECT count(*) FROM runs WHERE status = 'running' AND status IN ('queued', 'running', 'waiting')
        AND tenant = tenants.tenant AND parent IS NULL
    ) FROM tenants WHERE tenant IS NOT NULL
), lost (number) AS MATERIALIZED (
    SELECT number FROM heads WHERE lease_owner IS NOT NULL AND lease_owner <> :owner AND lease_until <= :clock
    UNION
    -- A holder that let a waiting run go and died before it had looked at what came for it.
    SELECT i.number FROM inbox i CROSS JOIN heads h USING (number) CROSS JOIN runs r USING (number)
    WHERE h.lease_owner IS NULL AND r.status = 'waiting'
), candidates (number, tenant, busy, agent, priority, of_tenant, of_agent) AS (
    SELECT r.number, r.tenant, shares.busy, r.agent, r.priority, 1, 1 FROM shares CROSS JOIN json_each((
        SELECT json_group_array(number) FROM (
            SELECT q.number FROM runs q CROSS JOIN heads h USING (number)
            WHERE q.status = 'queued' AND q.status IN ('queued', 'running', 'waiting') AND q.tenant = shares.tenant
            AND q.parent IS NULL AND q.agent IN (SELECT name FROM agents WHERE most IS NULL OR busy < most)
            AND (h.lease_owner IS NULL OR (h.lease_owner <> :owner AND h.lease_until <= :clock))
            ORDER BY q.priority DESC, q.number LIMIT :limit
        )
    )) given CROSS JOIN runs r ON r.number = given.value
    WHERE :tenant_most IS NULL OR shares.busy < :tenant_most
    UNION ALL
    SELECT * FROM (
        SELECT r.number, r.tenant, coalesce((SELECT busy FROM shares WHERE tenant = r.tenant), 0), r.agent, r.priority,
            0, p.agent IS NOT r.agent
        FROM runs r CROSS JOIN agents ON agents.name = r.agent CROSS JOIN heads h ON h.number = r.number
        LEFT JOIN runs p ON p.number = r.parent
        WHERE r.status = 'queued' AND r.parent IS NOT NULL
        AND (agents.most IS NULL OR agents.busy < agents.most OR p.agent = r.agent)
        AND (h.lease_owner IS NULL OR (h.lease_owner <> :owner AND h.lease_until <= :clock))
        ORDER BY r.priority DESC, r.number LIMIT :limit
    )
    UNION ALL
    SELECT r.number, r.tenant, coalesce((SELECT busy FROM shares WHERE tenant = r.tenant), 0), r.agent, r.priority, 0, 0
    FROM lost CROSS JOIN runs r USING (number)
    WHERE r.status <> 'queued' AND r.agent IN (SELECT name FROM agents)
), placed AS (
    SELECT *, busy + row_number() OVER mine AS place, busy + sum(of_tenant) OVER mine AS share FROM candidates
    WINDOW mine AS (PARTITION BY tenant ORDER BY priority DESC, number ROWS UNBOUNDED PRECEDING)
), fitting AS (
    SELECT *, sum(of_agent) OVER (
        PARTITION BY agent ORDER BY place, priority DESC, number ROWS UNBOUNDED PRECEDING
    ) AS share_of_agent
    FROM placed WHERE NOT of_tenant OR :tenant_most IS NULL OR share <= :tenant_most
)
SELECT number FROM fitting JOIN agents ON agents.name = fitting.agent
WHERE NOT of_agent OR most IS NULL OR agents.busy + share_of_agent <= most
ORDER BY place, priority DESC, number LIMIT :limit

-- name: has_place
-- Whether a run may begin at once: its tenant and its agent execute fewer than they may, and nothing as urgent waits.
SELECT (:tenant_most IS NULL OR (
    SELECT count(*) FROM (
        SELECT 1 FROM runs WHERE status = 'running' AND status IN ('queued', 'running', 'waiting')
        AND tenant = :tenant AND parent IS NULL LIMIT :tenant_most
    )
) < :tenant_most AND NOT EXISTS (
    SELECT 1 FROM runs WHERE status = 'queued' AND status IN ('queued', 'running', 'waiting')
    AND tenant = :tenant AND priority >= :priority AND parent IS NULL
)) AND (:agent_most IS NULL OR (
    SELECT count(*) FROM (
        SELECT 1 FROM runs WHERE status = 'running' AND status IN ('queued', 'running', 'waiting')
        AND agent = :agent LIMIT :agent_most
    )
) < :agent_most AND NOT EXISTS (
    SELECT 1 FROM runs WHERE status = 'queued' AND status IN ('queued', 'running', 'waiting')
    AND agent = :agent AND priority >= :priority
))

-- name: claim_heads
UPDATE heads SET lease_owner = ?, lease_epoch = lease_epoch + 1, lease_until = ?
WHERE number IN (SELECT value FROM json_each(?))

-- name: claim_runs
UPDATE runs SET status = 'running' WHERE status = 'queued' AND number IN (SELECT value FROM json_each(?))

-- name: disownable
SELECT number FROM heads
WHERE lease_owner IS NOT NULL AND lease_owner = :owner AND lease_until <= :clock AND NOT is_over
AND number NOT IN (SELECT value FROM json_each(:held)) ORDER BY number

-- name: disown
UPDATE heads SET lease_owner = '' WHERE number IN (SELECT value FROM json_each(?))

-- name: lost
SELECT json_group_array(lease.value ->> 0) FROM json_each(:leases) lease
WHERE NOT EXISTS (
    SELECT 1 FROM heads
    WHERE number = lease.value ->> 0 AND lease_epoch = lease.value ->> 1 AND lease_owner = :owner AND NOT is_over
)

-- name: renew
UPDATE heads SET lease_until = :until WHERE lease_owner = :owner AND NOT is_over AND (number, lease_epoch) IN (
    SELECT value ->> 0, value ->> 1 FROM json_each(:leases)
)

-- name: idempotency_expired
DELETE FROM idempotency WHERE tenant = ? AND method = ? AND path = ? AND key = ? AND expires_at <= ?

-- name: idempotency_begin
INSERT INTO idempotency (tenant, method, path, key, fingerprint, number, status, body, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: idempotency_finish
INSERT INTO idempotency (tenant, method, path, key, fingerprint, number, status, body, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, method, path, key) DO UPDATE SET
    number = excluded.number, status = excluded.status, body = excluded.body, expires_at = excluded.expires_at

-- name: idempotency_forget
DELETE FROM idempotency WHERE tenant = ? AND method = ? AND path = ? AND key = ? AND status = 0 AND number IS NULL

-- name: add_key
INSERT INTO api_keys (name, hash, role, tenant, created_at, revoked_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING

-- name: revoke_key
UPDATE api_keys SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL

-- name: put_file
INSERT INTO files (tenant, file_id, number, name, media_type, size, sha256, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, file_id) DO UPDATE SET
    number = excluded.number, name = excluded.name, media_type = excluded.media_type, size = excluded.size,
    sha256 = excluded.sha256, created_at = excluded.created_at

-- name: set_meta
INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: claim_calls
UPDATE interrupt_parts SET
    claim_number = claim_number + (claim_worker IS NOT :worker), claim_worker = :worker, claim_until = :until
WHERE number = :number AND is_open AND answer IS NULL AND tool_call_id IN (SELECT value FROM json_each(:call_ids))
    AND (claim_worker IS :worker OR (:until > :at AND (claim_until IS NULL OR claim_until <= :at)))
RETURNING tool_call_id
