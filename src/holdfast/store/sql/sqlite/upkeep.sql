-- name: newest_timestamp
-- The newest segment of a tenant began at most the longest span before the newest began.
WITH RECURSIVE tenants (tenant) AS (
    SELECT min(tenant) FROM segments
    UNION ALL
    SELECT (SELECT min(tenant) FROM segments WHERE tenant > tenants.tenant) FROM tenants WHERE tenants.tenant IS NOT NULL
)
SELECT coalesce(max((
    SELECT max(last_timestamp) FROM segments s
    WHERE s.tenant = tenants.tenant
    AND s.first_timestamp >= (SELECT max(first_timestamp) FROM segments WHERE tenant = tenants.tenant) - :span_max
)), 0) FROM tenants WHERE tenant IS NOT NULL

-- name: newest_number
SELECT coalesce(max(number), 0) FROM runs

-- name: expire_leases
UPDATE heads SET lease_owner = '', lease_until = 0.0 WHERE lease_owner IS NOT NULL

-- name: untake_deliveries
UPDATE deliveries SET locked_until = 0 WHERE locked_until > 0

-- name: next_epoch
UPDATE runs SET epoch = epoch + 1, epochs = json_insert(epochs, '$[#]', json_array(
    epoch + 1, (SELECT tail_sequence + 1 FROM heads WHERE heads.number = runs.number)
))

-- name: to_prune
SELECT number FROM runs WHERE ended_at < ? AND ended_at IS NOT NULL AND NOT is_pruned LIMIT 1

-- name: prune_facts
-- What goes of a run: its oldest segments up to a limit, and never the last one.
WITH going AS (
    SELECT first, last, hash, last_timestamp FROM segments WHERE number = :number
    AND first < (SELECT max(first) FROM segments WHERE number = :number)
    ORDER BY first LIMIT :limit
)
SELECT count(*), coalesce(sum(last - first + 1), 0), max(last), (SELECT hash FROM going ORDER BY first DESC LIMIT 1),
    max(last_timestamp)
FROM going

-- name: prune_segments
DELETE FROM segments WHERE number = ? AND last <= ?

-- name: prune_run
UPDATE runs SET first_sequence = ?, prior_hash = ? WHERE number = ?

-- name: note_pruned
UPDATE threads SET pruned_timestamp = max(pruned_timestamp, ?)
WHERE (tenant, thread_id) = (SELECT tenant, thread_id FROM runs WHERE number = ?)

-- name: note_gone
UPDATE threads SET pruned_timestamp = max(pruned_timestamp, gone.last_timestamp) FROM (
    SELECT r.tenant, r.thread_id, max(h.last_timestamp) AS last_timestamp
    FROM json_each(?) given JOIN runs r ON r.number = given.value JOIN heads h USING (number)
    WHERE r.thread_id IS NOT NULL GROUP BY r.tenant, r.thread_id
) gone WHERE threads.tenant = gone.tenant AND threads.thread_id = gone.thread_id

-- name: pruned
UPDATE runs SET is_pruned = 1 WHERE number = ?

-- name: ended_runs
SELECT json_group_array(number) FROM (
    SELECT number FROM runs WHERE ended_at IS NOT NULL AND ended_at < ? ORDER BY ended_at LIMIT 50
)

-- name: runs_of_thread
SELECT json_group_array(number) FROM runs WHERE tenant = ? AND thread_id = ?

-- name: unfinished_of_thread
SELECT run_id, status FROM runs
WHERE tenant = ? AND thread_id = ? AND status IN ('queued', 'running', 'waiting') LIMIT 1

-- name: count_events
SELECT coalesce(sum(last - first + 1), 0) FROM segments WHERE number IN (SELECT value FROM json_each(?))

-- name: delete_runs
DELETE FROM {table} WHERE number IN (SELECT value FROM json_each(?))

-- name: delete_thread
DELETE FROM threads WHERE tenant = ? AND thread_id = ?

-- name: delete_messages
DELETE FROM messages WHERE tenant = ? AND thread_id = ?

-- name: delete_working_memory
DELETE FROM working_memory WHERE tenant = ? AND thread_id = ?

-- name: delete_idempotency
DELETE FROM idempotency WHERE rowid IN (
    SELECT rowid FROM idempotency WHERE expires_at IS NOT NULL AND expires_at <= ? LIMIT 1000
)

-- name: delete_files
DELETE FROM files WHERE number IS NULL AND created_at < ?

-- name: contents
SELECT DISTINCT sha256 FROM files

-- name: count_runs
SELECT status, count(*) FROM runs GROUP BY status
