-- What the writing connection carries out as one statement each: an INSERT into one of these views runs its trigger.
-- They are temporary, made at opening, and so belong to the code and not to the file.
--
-- The reason is Python's global lock. apsw lets it go at every step of a statement, and a busy event loop gives it
-- back milliseconds later: 100 appends written as 200 statements took 434 ms beside a busy loop, as one they take 6.
-- A RAISE(ABORT) undoes its own statement and nothing else, so that a refused write leaves no trace.

-- The hot one: a segment, or nothing but the proof that the lease still holds.
CREATE TEMP VIEW appends (number, lease_epoch, tail, first, last, first_timestamp, last_timestamp, hash, marks, body) AS
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL;

CREATE TEMP TRIGGER do_append INSTEAD OF INSERT ON appends BEGIN
    UPDATE heads SET
        tail_sequence = coalesce(NEW.last, tail_sequence),
        head_hash = coalesce(NEW.hash, head_hash),
        last_timestamp = coalesce(NEW.last_timestamp, last_timestamp)
    WHERE number = NEW.number AND lease_epoch = NEW.lease_epoch AND tail_sequence = NEW.tail AND NOT is_over;
    SELECT RAISE(ABORT, 'lease_lost') WHERE changes() <> 1;
    INSERT INTO segments (number, first, last, first_timestamp, last_timestamp, hash, marks, body, tenant)
    SELECT NEW.number, NEW.first, NEW.last, NEW.first_timestamp, NEW.last_timestamp, NEW.hash, NEW.marks, NEW.body, tenant
    FROM heads WHERE number = NEW.number AND NEW.first IS NOT NULL;
END;

-- An append that changes the run. `before` are the statuses that `status` may follow, `clock` is the lease clock.
CREATE TEMP VIEW changes (
    number, lease_epoch, tail, first, last, first_timestamp, last_timestamp, hash, marks, body,
    unleased, is_released, clock, status, before, is_final, attempt, output, error, usage, cancel,
    started_at, ended_at, executed_seconds
) AS
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL;

CREATE TEMP TRIGGER do_change INSTEAD OF INSERT ON changes BEGIN
    SELECT RAISE(ABORT, 'lease_lost') WHERE NOT EXISTS (
        SELECT 1 FROM heads
        WHERE number = NEW.number AND lease_epoch = NEW.lease_epoch AND tail_sequence = NEW.tail AND NOT is_over
        AND (NOT NEW.unleased OR lease_owner IS NULL OR lease_until <= NEW.clock)
    );
    SELECT RAISE(ABORT, 'transition') WHERE NEW.status IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM runs WHERE number = NEW.number AND instr(NEW.before, ',' || status || ',')
    );
    UPDATE runs SET
        status = coalesce(NEW.status, status),
        attempt = coalesce(NEW.attempt, attempt),
        output = coalesce(NEW.output, output),
        error = coalesce(NEW.error, error),
        usage = coalesce(NEW.usage, usage),
        cancel = coalesce(NEW.cancel, cancel),
        started_at = coalesce(NEW.started_at, started_at),
        ended_at = coalesce(NEW.ended_at, ended_at),
        executed_seconds = coalesce(NEW.executed_seconds, executed_seconds)
    WHERE number = NEW.number;
    -- A running run that is let go without another status would be nobody's: it is left as one whose holder is gone.
    UPDATE heads SET
        tail_sequence = coalesce(NEW.last, tail_sequence),
        head_hash = coalesce(NEW.hash, head_hash),
        last_timestamp = coalesce(NEW.last_timestamp, last_timestamp),
        lease_epoch = lease_epoch + NEW.unleased,
        is_over = NEW.is_final,
        lease_owner = CASE
            WHEN NOT (NEW.is_released OR NEW.is_final) THEN lease_owner
            WHEN (SELECT status FROM runs WHERE number = NEW.number) = 'running' THEN ''
        END,
        lease_until = CASE
            WHEN NOT (NEW.is_released OR NEW.is_final) THEN lease_until
            WHEN (SELECT status FROM runs WHERE number = NEW.number) = 'running' THEN 0.0
        END
    WHERE number = NEW.number;
    INSERT INTO segments (number, first, last, first_timestamp, last_timestamp, hash, marks, body, tenant)
    SELECT NEW.number, NEW.first, NEW.last, NEW.first_timestamp, NEW.last_timestamp, NEW.hash, NEW.marks, NEW.body, tenant
    FROM heads WHERE number = NEW.number AND NEW.first IS NOT NULL;
    UPDATE threads SET
        active = CASE WHEN NEW.is_final AND active = NEW.number THEN NULL ELSE active END,
        updated_at = max(updated_at, coalesce(NEW.last_timestamp, NEW.ended_at, 0)),
        last_timestamp = max(last_timestamp, coalesce(NEW.last_timestamp, 0))
    WHERE NEW.status IS NOT NULL
    AND (tenant, thread_id) = (SELECT tenant, thread_id FROM runs WHERE number = NEW.number);
    DELETE FROM inbox WHERE NEW.is_final AND number = NEW.number;
END;

-- A run with its first events. `now` is wall time; the store has given the number.
CREATE TEMP VIEW starts (
    number, run_id, tenant, agent, agent_id, thread_id, parent, status, attempt, priority, superseded, input, output,
    error, cancel, usage, caller, role, trust, metadata, timeout_seconds, executed_seconds, created_at, started_at,
    ended_at, epoch, epochs,
    lease_owner, lease_epoch, lease_until, is_over,
    first, last, first_timestamp, last_timestamp, hash, marks, body,
    message_id, message_role, content, media, detail, message_created_at,
    key, method, path, fingerprint, key_created_at, key_expires_at,
    queued_max, tenant_queued_max, now
) AS
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL,
    NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL;

CREATE TEMP TRIGGER do_start INSTEAD OF INSERT ON starts BEGIN
    DELETE FROM idempotency
    WHERE NEW.key IS NOT NULL AND tenant = NEW.tenant AND method = NEW.method AND path = NEW.path AND key = NEW.key
    AND expires_at <= NEW.now;
    SELECT RAISE(ABORT, 'key_used') WHERE NEW.key IS NOT NULL AND EXISTS (
        SELECT 1 FROM idempotency
        WHERE tenant = NEW.tenant AND method = NEW.method AND path = NEW.path AND key = NEW.key
    );
    SELECT RAISE(ABORT, 'run_exists') WHERE EXISTS (
        SELECT 1 FROM runs WHERE tenant = NEW.tenant AND run_id = NEW.run_id
    );
    SELECT RAISE(ABORT, 'thread_busy') WHERE NEW.thread_id IS NOT NULL AND EXISTS (
        SELECT 1 FROM threads WHERE tenant = NEW.tenant AND thread_id = NEW.thread_id AND active IS NOT NULL
    );
    SELECT RAISE(ABORT, 'behind') WHERE NEW.thread_id IS NOT NULL AND EXISTS (
        SELECT 1 FROM threads
        WHERE tenant = NEW.tenant AND thread_id = NEW.thread_id AND last_timestamp + 2 > NEW.first_timestamp
    );
    SELECT RAISE(ABORT, 'tenant_queue_full') WHERE NEW.status = 'queued' AND NEW.tenant_queued_max IS NOT NULL
    AND NEW.tenant_queued_max <= (
        SELECT count(*) FROM (
            SELECT 1 FROM runs
            WHERE status = 'queued' AND status IN ('queued', 'running', 'waiting') AND tenant = NEW.tenant
            LIMIT NEW.tenant_queued_max
        )
    );
    SELECT RAISE(ABORT, 'queue_full') WHERE NEW.status = 'queued' AND NEW.queued_max IS NOT NULL AND NEW.queued_max <= (
        -- The second condition repeats the first one in the words of the index runs_active, so that it is used.
        SELECT count(*) FROM (
            SELECT 1 FROM runs
            WHERE status = 'queued' AND status IN ('queued', 'running', 'waiting') LIMIT NEW.queued_max
        )
    );
    INSERT INTO runs (
        number, run_id, tenant, agent, agent_id, thread_id, parent, status, attempt, priority, superseded, input,
        output, error, cancel, usage, caller, role, trust, metadata, timeout_seconds, executed_seconds, created_at,
        started_at, ended_at, epoch, epochs, first_sequence, prior_hash
    ) VALUES (
        NEW.number, NEW.run_id, NEW.tenant, NEW.agent, NEW.agent_id, NEW.thread_id, NEW.parent, NEW.status, NEW.attempt,
        NEW.priority, NEW.superseded, NEW.input, NEW.output, NEW.error, NEW.cancel, NEW.usage, NEW.caller, NEW.role,
        NEW.trust, NEW.metadata, NEW.timeout_seconds, NEW.executed_seconds, NEW.created_at, NEW.started_at,
        NEW.ended_at, NEW.epoch, NEW.epochs, NEW.first, zeroblob(32)
    );
    INSERT INTO heads VALUES (
        NEW.number, NEW.tenant, NEW.lease_owner, NEW.lease_epoch, NEW.lease_until, NEW.last, NEW.hash,
        NEW.last_timestamp, NEW.is_over
    );
    INSERT INTO segments (number, first, last, first_timestamp, last_timestamp, tenant, hash, marks, body)
    VALUES (
        NEW.number, NEW.first, NEW.last, NEW.first_timestamp, NEW.last_timestamp, NEW.tenant, NEW.hash, NEW.marks,
        NEW.body
    );
    INSERT INTO threads (tenant, thread_id, agent, active, created_at, updated_at, last_timestamp)
    SELECT NEW.tenant, NEW.thread_id, NEW.agent, CASE WHEN NOT NEW.is_over THEN NEW.number END, NEW.created_at,
        NEW.last_timestamp, NEW.last_timestamp
    WHERE NEW.thread_id IS NOT NULL
    ON CONFLICT (tenant, thread_id) DO UPDATE SET
        agent = excluded.agent,
        active = excluded.active,
        updated_at = max(updated_at, excluded.updated_at),
        last_timestamp = max(last_timestamp, excluded.last_timestamp);
    INSERT INTO messages (
        tenant, thread_id, message_id, number, role, content, media, detail, created_at, superseded
    )
    SELECT NEW.tenant, NEW.thread_id, NEW.message_id, NEW.number, NEW.message_role, NEW.content, NEW.media, NEW.detail,
        NEW.message_created_at, 0
    WHERE NEW.message_id IS NOT NULL AND NEW.thread_id IS NOT NULL;
    INSERT INTO idempotency (tenant, method, path, key, fingerprint, number, status, body, created_at, expires_at)
    SELECT NEW.tenant, NEW.method, NEW.path, NEW.key, NEW.fingerprint, NEW.number, 0, x'', NEW.key_created_at,
        NEW.key_expires_at
    WHERE NEW.key IS NOT NULL;
END;
