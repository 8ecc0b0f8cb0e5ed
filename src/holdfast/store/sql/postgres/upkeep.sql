-- name: settings
SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('full_page_writes') AS full_page_writes, current_setting('server_version_num')::integer AS version,
    current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby

-- name: has_schema
-- Not to_regclass: that may still remember that there was none before another process made it.
SELECT EXISTS (
    SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'holdfast' AND c.relname = 'meta'
)

-- name: schema_version
SELECT value::integer FROM holdfast.meta WHERE key = 'schema_version'

-- name: count_runs
SELECT status, count(*) FROM holdfast.runs GROUP BY status

-- name: lock
SELECT pg_advisory_xact_lock(4712895173263741270)

-- name: place
-- What a restored backup does not bring along. A copy of the whole cluster goes on in another timeline; a dump gives
-- the tables other ids.
SELECT concat_ws(' ',
    (SELECT system_identifier FROM pg_control_system()), substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
    (SELECT oid FROM pg_database WHERE datname = current_database()), 'holdfast.heads'::regclass::oid,
    current_database()
)

-- name: next_epoch
UPDATE holdfast.runs r SET epoch = r.epoch + 1, epochs = concat(
    left(r.epochs, -1), CASE WHEN r.epochs <> '[]' THEN ',' END, '[', r.epoch + 1, ',', h.tail_sequence + 1, ']]'
) FROM holdfast.heads h WHERE h.number = r.number

-- name: skip_numbers
SELECT setval('holdfast.numbers', greatest(
    (SELECT last_value FROM holdfast.numbers), (SELECT max(number) FROM holdfast.runs), 1
) + $1)

-- name: prune_lock
SELECT pg_try_advisory_xact_lock(4712895173263741271)

-- name: to_prune
SELECT number FROM holdfast.runs WHERE ended_at < $1 AND ended_at IS NOT NULL AND NOT is_pruned LIMIT 1

-- name: prune_facts
-- What goes of a run: its oldest segments up to a limit, and never the last one.
WITH going AS (
    SELECT first, last, hash, last_timestamp FROM holdfast.segments WHERE number = $1
    AND first < (SELECT max(first) FROM holdfast.segments WHERE number = $1)
    ORDER BY first LIMIT $2
)
SELECT count(*) AS segments, coalesce(sum(last - first + 1), 0)::bigint AS events, max(last) AS last,
    (SELECT hash FROM going ORDER BY first DESC LIMIT 1) AS hash, max(last_timestamp) AS last_timestamp
FROM going

-- name: prune_segments
DELETE FROM holdfast.segments WHERE number = $1 AND last <= $2

-- name: prune_run
UPDATE holdfast.runs SET first_sequence = $1, prior_hash = $2 WHERE number = $3

-- name: note_pruned
UPDATE holdfast.threads SET pruned_timestamp = greatest(pruned_timestamp, $1)
WHERE (tenant, thread_id) = (SELECT tenant, thread_id FROM holdfast.runs WHERE number = $2)

-- name: note_gone
UPDATE holdfast.threads t SET pruned_timestamp = greatest(t.pruned_timestamp, gone.last_timestamp) FROM (
    SELECT r.tenant, r.thread_id, max(h.last_timestamp) AS last_timestamp
    FROM holdfast.runs r JOIN holdfast.heads h USING (number)
    WHERE r.number = ANY ($1::bigint[]) AND r.thread_id IS NOT NULL GROUP BY r.tenant, r.thread_id
) gone WHERE t.tenant = gone.tenant AND t.thread_id = gone.thread_id

-- name: pruned
UPDATE holdfast.runs SET is_pruned = true WHERE number = $1

-- name: ended_runs
SELECT array_agg(number) FROM (
    SELECT number FROM holdfast.runs WHERE ended_at IS NOT NULL AND ended_at < $1 ORDER BY ended_at LIMIT 50
) ended

-- name: thread_lock
SELECT 1 FROM holdfast.threads WHERE tenant = $1 AND thread_id = $2 FOR UPDATE

-- name: unfinished_of_thread
SELECT run_id, status FROM holdfast.runs
WHERE tenant = $1 AND thread_id = $2 AND status IN ('queued', 'running', 'waiting') LIMIT 1

-- name: runs_of_thread
SELECT coalesce(array_agg(number), '{}') FROM holdfast.runs WHERE tenant = $1 AND thread_id = $2

-- name: count_events
SELECT coalesce(sum(last - first + 1), 0)::bigint FROM holdfast.segments WHERE number = ANY ($1::bigint[])

-- name: delete_runs
DELETE FROM holdfast.{table} WHERE number = ANY ($1::bigint[])

-- name: delete_thread
DELETE FROM holdfast.threads WHERE tenant = $1 AND thread_id = $2

-- name: delete_messages
DELETE FROM holdfast.messages WHERE tenant = $1 AND thread_id = $2

-- name: delete_working_memory
DELETE FROM holdfast.working_memory WHERE tenant = $1 AND thread_id = $2

-- name: delete_idempotency
WITH gone AS (
    DELETE FROM holdfast.idempotency WHERE id IN (
        SELECT id FROM holdfast.idempotency WHERE expires_at IS NOT NULL AND expires_at <= $1 LIMIT 1000
    ) RETURNING 1
) SELECT count(*) FROM gone

-- name: delete_files
WITH gone AS (DELETE FROM holdfast.files WHERE number IS NULL AND created_at < $1 RETURNING 1) SELECT count(*) FROM gone

-- name: unnamed_contents
-- Locked, so that no file takes one of them while we look again.
SELECT sha256 FROM holdfast.contents c
WHERE NOT EXISTS (SELECT 1 FROM holdfast.files f WHERE f.sha256 = c.sha256) LIMIT 1000 FOR UPDATE SKIP LOCKED

-- name: delete_contents
DELETE FROM holdfast.contents c WHERE sha256 = ANY ($1::text[])
AND NOT EXISTS (SELECT 1 FROM holdfast.files f WHERE f.sha256 = c.sha256)
