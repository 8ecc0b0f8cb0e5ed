-- What changes runs, as procedures: a commit is one call, one message to the database and one back, and a transaction
-- by itself. Each write is checked under the lock of its run before it changes anything, so that a refused one leaves
-- no trace and needs no savepoint.
--
-- A change has a number of its process. The process's row remembers the last one and what it came to, so that asking
-- again after a lost reply tells what happened and does nothing twice; and one that arrives late does nothing at all.
--
-- A name ends in the version that made it: a process of an older version goes on calling its own.

SET LOCAL search_path = holdfast, pg_catalog, pg_temp;  -- as the procedures have it that are called from outside

-- A process that was not heard of for so long does not count any more.
CREATE FUNCTION holdfast.away_seconds_1() RETURNS double precision
LANGUAGE sql IMMUTABLE AS 'SELECT 10.0::double precision';

-- Up to which timestamp everything is committed; NULL: no process has announced itself. Of a process that is away but
-- whose runs nobody took, events may still come: it is waited for, up to ten minutes.
CREATE FUNCTION holdfast.common_floor_1() RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    SELECT min(p.floor) FROM holdfast.processes p, holdfast.lease_clock() AS clock
    WHERE p.floor IS NOT NULL AND (
        p.seen_at > clock - holdfast.away_seconds_1()
        OR p.seen_at > clock - 600 AND EXISTS (SELECT 1 FROM holdfast.heads h WHERE h.lease_owner = p.owner)
    )
$$;

-- Tell that a process lives; the floor that it has now comes back, and whether it has just joined the others. One that
-- joins calls again: only when its row is seen by all can it know what was shown without it.
CREATE FUNCTION holdfast.announce_1(
    own_process text, own_owner text, own_agents text[], own_floor bigint, is_second boolean,
    OUT new_floor bigint, OUT has_joined boolean
)
LANGUAGE plpgsql
SET search_path = holdfast, pg_catalog, pg_temp
AS $$
DECLARE
    clock double precision := lease_clock();
    own processes%ROWTYPE;
BEGIN
    INSERT INTO processes (process, seen_at) VALUES (own_process, clock) ON CONFLICT DO NOTHING;
    SELECT * INTO own FROM processes WHERE process = own_process FOR NO KEY UPDATE;
    has_joined := own.floor IS NULL OR own.seen_at <= clock - away_seconds_1();
    new_floor := greatest(own_floor, own.floor);
    IF has_joined OR is_second THEN
        new_floor := greatest(new_floor, (SELECT max(floor) FROM processes));
    END IF;
    UPDATE processes SET owner = own_owner, agents = own_agents, seen_at = clock, floor = new_floor
    WHERE process = own_process;
END $$;

-- Why a run takes no append of this lease epoch and tail.
CREATE FUNCTION holdfast.lease_lost_1(of_number bigint) RETURNS json
LANGUAGE sql VOLATILE AS $$
    SELECT coalesce((
        SELECT json_build_object(
            'refused', 'lease_lost', 'is_over', h.is_over, 'epoch', h.lease_epoch, 'tail', h.tail_sequence,
            'status', r.status, 'run_id', r.run_id
        )
        FROM holdfast.heads h JOIN holdfast.runs r USING (number) WHERE h.number = of_number
    ), '{"refused": "lease_lost"}')
$$;

-- Why a part takes no answer; NULL if it does.
CREATE FUNCTION holdfast.refused_answer_1(of_number bigint, of_interrupt text, of_call text) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    part record;
BEGIN
    SELECT i.status, i.kind, p.answer, p."by" INTO part
    FROM holdfast.interrupt_parts p JOIN holdfast.interrupts i USING (number, interrupt_id)
    WHERE p.number = of_number AND p.interrupt_id = of_interrupt
    AND md5(p.tool_call_id) = md5(of_call) AND p.tool_call_id = of_call;
    IF NOT FOUND THEN
        RETURN json_build_object('refused', 'interrupt_not_found', 'interrupt_id', of_interrupt, 'call', of_call);
    ELSIF part.answer IS NULL AND part.status = 'pending' THEN
        RETURN NULL;
    END IF;
    RETURN json_build_object(
        'refused', 'interrupt_resolved', 'interrupt_id', of_interrupt, 'kind', part.kind, 'status', part.status,
        'answer', part.answer, 'by', part."by"
    );
END $$;

CREATE FUNCTION holdfast.answer_part_1(
    of_number bigint, of_interrupt text, of_call text, given_answer bytea, given_by text, given_caller text, given_at bigint
) RETURNS void
LANGUAGE sql AS $$
    UPDATE holdfast.interrupt_parts
    SET answer = given_answer, "by" = given_by, caller = given_caller, answered_at = given_at, is_open = false
    WHERE number = of_number AND interrupt_id = of_interrupt
    AND md5(tool_call_id) = md5(of_call) AND tool_call_id = of_call AND answer IS NULL
$$;

-- An append that changes more than the journal; a refusal comes back, NULL when it was done.
CREATE FUNCTION holdfast.append_1(
    of_number bigint, own_epoch bigint, own_tail bigint, first bigint, last bigint, first_stamp bigint,
    last_stamp bigint, hash bytea, mark_list text, body bytea, document text, clock double precision
) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    head heads%ROWTYPE;
    found_run record;
    given record;
    refusal json;
    new_status text;
    leaves boolean;
BEGIN
    SELECT * INTO given FROM json_to_record(document::json) AS x(
        unleased boolean, release boolean, status text, before text[], is_final boolean, attempt integer, output bytea,
        error text, usage bytea, cancel text, started_at bigint, ended_at bigint, executed_seconds double precision,
        changes_run boolean, steps json, interrupts json, parts json, answers json, messages json, outbox json,
        inbox_done bigint[]
    );
    SELECT * INTO head FROM heads WHERE number = of_number FOR NO KEY UPDATE;

    IF given.answers IS NOT NULL THEN
        SELECT refused INTO refusal FROM (
            SELECT a.*, refused_answer_1(of_number, a.interrupt_id, a.tool_call_id) AS refused
            FROM json_to_recordset(given.answers) AS a(interrupt_id text, tool_call_id text)
        ) answers
        WHERE refused IS NOT NULL AND NOT (  -- an interrupt may come with its answer
            refused ->> 'refused' = 'interrupt_not_found' AND EXISTS (
                SELECT 1 FROM json_to_recordset(given.parts) AS p(interrupt_id text, tool_call_id text)
                WHERE p.interrupt_id = answers.interrupt_id AND p.tool_call_id = answers.tool_call_id
            )
        ) LIMIT 1;
        IF refusal IS NOT NULL THEN
            RETURN refusal;
        END IF;
    END IF;

    IF head.number IS NULL OR head.lease_epoch <> own_epoch OR head.tail_sequence <> own_tail OR head.is_over
        OR given.unleased AND head.lease_owner IS NOT NULL AND head.lease_until > clock
    THEN
        RETURN lease_lost_1(of_number);
    END IF;
    IF given.changes_run THEN
        SELECT run_id, status, tenant, thread_id INTO found_run FROM runs WHERE number = of_number;
        IF given.status IS NOT NULL AND NOT found_run.status = ANY (given.before) THEN
            RETURN json_build_object(
                'refused', 'transition', 'run_id', found_run.run_id, 'before', found_run.status, 'after', given.status
            );
        END IF;
        UPDATE runs r SET
            status = coalesce(given.status, r.status),
            attempt = coalesce(given.attempt, r.attempt),
            output = coalesce(given.output, r.output),
            error = coalesce(given.error, r.error),
            usage = coalesce(given.usage, r.usage),
            cancel = coalesce(given.cancel, r.cancel),
            started_at = coalesce(given.started_at, r.started_at),
            ended_at = coalesce(given.ended_at, r.ended_at),
            executed_seconds = coalesce(given.executed_seconds, r.executed_seconds)
        WHERE r.number = of_number;
        new_status := coalesce(given.status, found_run.status);
    END IF;

    -- A running run that is let go without another status would be nobody's: it is left as one whose holder is gone.
    leaves := given.release OR given.unleased OR given.is_final;
    UPDATE heads h SET
        tail_sequence = coalesce(last, h.tail_sequence),
        head_hash = coalesce(hash, h.head_hash),
        last_timestamp = coalesce(last_stamp, h.last_timestamp),
        lease_epoch = h.lease_epoch + given.unleased::integer,
        is_over = given.is_final,
        lease_owner = CASE WHEN NOT leaves THEN h.lease_owner WHEN new_status = 'running' THEN '' END,
        lease_until = CASE WHEN NOT leaves THEN h.lease_until WHEN new_status = 'running' THEN 0 END
    WHERE h.number = of_number;
    IF first IS NOT NULL THEN
        INSERT INTO segments VALUES (
            of_number, first, last, first_stamp, last_stamp, head.tenant, hash, mark_list, body
        );
    END IF;
    IF given.status IS NOT NULL THEN
        UPDATE threads t SET
            active = CASE WHEN given.is_final AND t.active = of_number THEN NULL ELSE t.active END,
            updated_at = greatest(t.updated_at, coalesce(last_stamp, given.ended_at, 0)),
            last_timestamp = greatest(t.last_timestamp, coalesce(last_stamp, 0))
        WHERE t.tenant = found_run.tenant AND t.thread_id = found_run.thread_id;
        IF given.is_final THEN
            DELETE FROM inbox WHERE number = of_number;
        END IF;
    END IF;

    IF given.steps IS NOT NULL THEN
        INSERT INTO steps AS s (
            number, key, name, status, attempts, at_most_once, started_at, completed_at, output, error, sequence, reused
        )
        SELECT of_number, x.* FROM json_to_recordset(given.steps) AS x(
            key text, name text, status text, attempts integer, at_most_once boolean, started_at bigint,
            completed_at bigint, output bytea, error text, sequence bigint, reused boolean
        )
        ON CONFLICT (number, md5(key)) DO UPDATE SET
            name = excluded.name, status = excluded.status, attempts = excluded.attempts,
            at_most_once = excluded.at_most_once, started_at = excluded.started_at,
            completed_at = excluded.completed_at, output = excluded.output, error = excluded.error,
            sequence = excluded.sequence, reused = excluded.reused;
    END IF;
    IF given.interrupts IS NOT NULL THEN
        INSERT INTO interrupts AS i (
            number, tenant, thread_id, interrupt_id, kind, status, step, question, choices, reason, tool, tool_call_id,
            input, rule, input_hash, round, answer_role, created_at, resolved_at, sequence, resolved_sequence
        )
        SELECT of_number, r.tenant, r.thread_id, x.* FROM runs r, json_to_recordset(given.interrupts) AS x(
            interrupt_id text, kind text, status text, step text, question text, choices text, reason text, tool text,
            tool_call_id text, input bytea, rule text, input_hash text, round integer, answer_role text,
            created_at bigint, resolved_at bigint, sequence bigint, resolved_sequence bigint
        ) WHERE r.number = of_number
        ON CONFLICT (number, interrupt_id) DO UPDATE SET
            kind = excluded.kind, status = excluded.status, step = excluded.step, question = excluded.question,
            choices = excluded.choices, reason = excluded.reason, tool = excluded.tool,
            tool_call_id = excluded.tool_call_id, input = excluded.input, rule = excluded.rule,
            input_hash = excluded.input_hash, round = excluded.round, answer_role = excluded.answer_role,
            created_at = excluded.created_at, resolved_at = excluded.resolved_at, sequence = excluded.sequence,
            resolved_sequence = excluded.resolved_sequence;
        INSERT INTO interrupt_parts (
            number, interrupt_id, tool_call_id, tool, namespace, input, expires_at, on_expiry, "default", answer, "by",
            caller, answered_at, claim_worker, claim_number, claim_until, is_open
        )
        SELECT of_number, x.* FROM json_to_recordset(given.parts) AS x(
            interrupt_id text, tool_call_id text, tool text, namespace text, input bytea, expires_at bigint,
            on_expiry text, "default" bytea, answer bytea, "by" text, caller text, answered_at bigint,
            claim_worker text, claim_number bigint, claim_until bigint, is_open boolean
        )
        ON CONFLICT (number, interrupt_id, md5(tool_call_id)) DO NOTHING;
        UPDATE interrupt_parts p SET is_open = false
        FROM json_to_recordset(given.interrupts) AS x(interrupt_id text, status text)
        WHERE x.status <> 'pending' AND p.number = of_number AND p.interrupt_id = x.interrupt_id AND p.is_open;
    END IF;
    IF given.messages IS NOT NULL THEN
        INSERT INTO messages AS m (
            number, tenant, thread_id, message_id, role, content, media, detail, created_at, superseded
        )
        SELECT of_number, r.tenant, r.thread_id, x.* FROM runs r, json_to_recordset(given.messages) AS x(
            message_id text, role text, content text, media bytea, detail bytea, created_at bigint, superseded boolean
        ) WHERE r.number = of_number AND r.thread_id IS NOT NULL
        ON CONFLICT (tenant, thread_id, message_id) DO UPDATE SET
            number = excluded.number, role = excluded.role, content = excluded.content, media = excluded.media,
            detail = excluded.detail, superseded = excluded.superseded;
    END IF;
    IF given.inbox_done IS NOT NULL THEN
        DELETE FROM inbox WHERE inbox_id = ANY (given.inbox_done);
    END IF;
    IF given.outbox IS NOT NULL THEN
        INSERT INTO outbox (endpoint_id, number, sequence, created_at)
        SELECT * FROM json_to_recordset(given.outbox) AS x(
            endpoint_id text, number bigint, sequence bigint, created_at bigint
        ) ON CONFLICT DO NOTHING;
    END IF;
    IF given.answers IS NOT NULL THEN
        PERFORM answer_part_1(of_number, a.interrupt_id, a.tool_call_id, a.answer, a."by", a.caller, a.at)
        FROM json_to_recordset(given.answers) AS a(
            interrupt_id text, tool_call_id text, answer bytea, "by" text, caller text, at bigint
        );
    END IF;
    RETURN NULL;
END $$;

-- A run with its first events. Its number and the end of its lease come back, or why it was refused. Two processes may
-- find the same id, thread or key free at the same moment; then one of them has to look again: HF001.
CREATE FUNCTION holdfast.start_1(
    first bigint, last bigint, first_stamp bigint, last_stamp bigint, hash bytea, mark_list text, body bytea,
    document text, has_room boolean, clock double precision
) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    given record;
    busy record;
    new_number bigint;
    until double precision;
BEGIN
    SELECT * INTO given FROM json_to_record(document::json) AS x(
        run_id text, tenant text, agent text, agent_id text, thread_id text, parent bigint, status text,
        attempt integer, priority integer, superseded boolean, input bytea, output bytea, error text, cancel text,
        usage bytea, caller text, role text, trust text, metadata text, timeout_seconds double precision,
        executed_seconds double precision, created_at bigint, started_at bigint, ended_at bigint, epoch integer,
        epochs text, lease_owner text, lease_epoch bigint, lease_seconds double precision, is_over boolean,
        message json, idempotency json, supersedes bigint[], outbox json, now bigint
    );
    IF given.idempotency IS NOT NULL THEN
        DELETE FROM idempotency i USING json_to_record(given.idempotency) AS k(method text, path text, key text)
        WHERE i.tenant = given.tenant AND i.method = k.method AND md5(i.path) = md5(k.path) AND i.key = k.key
        AND i.expires_at <= given.now;
        SELECT i.number, i.fingerprint INTO busy
        FROM idempotency i, json_to_record(given.idempotency) AS k(method text, path text, key text)
        WHERE i.tenant = given.tenant AND i.method = k.method AND md5(i.path) = md5(k.path) AND i.key = k.key;
        IF FOUND THEN
            RETURN json_build_object('refused', 'key_used', 'number', busy.number, 'fingerprint', busy.fingerprint);
        END IF;
    END IF;
    IF EXISTS (SELECT 1 FROM runs WHERE tenant = given.tenant AND run_id = given.run_id) THEN
        RETURN '{"refused": "run_exists"}'::json;
    END IF;
    IF given.thread_id IS NOT NULL THEN
        SELECT r.run_id, r.status INTO busy FROM threads t LEFT JOIN runs r ON r.number = t.active
        WHERE t.tenant = given.tenant AND t.thread_id = given.thread_id AND t.active IS NOT NULL;
        IF FOUND THEN
            RETURN json_build_object('refused', 'thread_busy', 'run_id', busy.run_id, 'status', busy.status);
        END IF;
    END IF;
    IF NOT has_room THEN
        RETURN '{"refused": "queue_full"}'::json;
    END IF;

    new_number := nextval('numbers');
    until := CASE WHEN given.lease_owner IS NOT NULL THEN clock + given.lease_seconds END;
    INSERT INTO runs (
        number, run_id, tenant, agent, agent_id, thread_id, parent, status, attempt, priority, superseded, input,
        output, error, cancel, usage, caller, role, trust, metadata, timeout_seconds, executed_seconds, created_at,
        started_at, ended_at, epoch, epochs, first_sequence, prior_hash
    ) VALUES (
        new_number, given.run_id, given.tenant, given.agent, given.agent_id, given.thread_id, given.parent,
        given.status, given.attempt, given.priority, given.superseded, given.input, given.output, given.error,
        given.cancel, given.usage, given.caller, given.role, given.trust, given.metadata, given.timeout_seconds,
        given.executed_seconds, given.created_at, given.started_at, given.ended_at, given.epoch, given.epochs, first,
        decode(repeat('00', 32), 'hex')
    ) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % was started elsewhere at this moment', given.run_id USING ERRCODE = 'HF001';
    END IF;
    INSERT INTO heads VALUES (
        new_number, given.tenant, given.lease_owner, given.lease_epoch, until, last, hash, last_stamp, given.is_over
    );
    INSERT INTO segments VALUES (
        new_number, first, last, first_stamp, last_stamp, given.tenant, hash, mark_list, body
    );
    IF given.thread_id IS NOT NULL THEN
        INSERT INTO threads AS t (tenant, thread_id, agent, active, created_at, updated_at, last_timestamp)
        VALUES (
            given.tenant, given.thread_id, given.agent, CASE WHEN NOT given.is_over THEN new_number END,
            given.created_at, last_stamp, last_stamp
        )
        ON CONFLICT (tenant, thread_id) DO UPDATE SET
            agent = excluded.agent,
            active = excluded.active,
            updated_at = greatest(t.updated_at, excluded.updated_at),
            last_timestamp = greatest(t.last_timestamp, excluded.last_timestamp)
        WHERE t.active IS NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'thread % was taken elsewhere at this moment', given.thread_id USING ERRCODE = 'HF001';
        END IF;
        IF given.message IS NOT NULL THEN
            INSERT INTO messages (
                number, tenant, thread_id, message_id, role, content, media, detail, created_at, superseded
            )
            SELECT new_number, given.tenant, given.thread_id, x.*, false FROM json_to_record(given.message) AS x(
                message_id text, role text, content text, media bytea, detail bytea, created_at bigint
            );
        END IF;
    END IF;
    IF given.idempotency IS NOT NULL THEN
        INSERT INTO idempotency (tenant, method, path, key, fingerprint, number, status, body, created_at, expires_at)
        SELECT given.tenant, k.method, k.path, k.key, k.fingerprint, new_number, 0, '', k.created_at, k.expires_at
        FROM json_to_record(given.idempotency) AS k(
            method text, path text, key text, fingerprint bytea, created_at bigint, expires_at bigint
        ) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'an idempotency key was used elsewhere at this moment' USING ERRCODE = 'HF001';
        END IF;
    END IF;
    IF given.supersedes IS NOT NULL THEN
        WITH old AS (
            UPDATE runs SET superseded = true WHERE tenant = given.tenant AND number = ANY (given.supersedes)
            RETURNING number
        )
        UPDATE messages m SET superseded = true FROM old WHERE m.number = old.number;
    END IF;
    IF given.outbox IS NOT NULL THEN
        INSERT INTO outbox (endpoint_id, number, sequence, created_at)
        SELECT x.endpoint_id, new_number, x.sequence, x.created_at FROM json_to_recordset(given.outbox) AS x(
            endpoint_id text, sequence bigint, created_at bigint
        ) ON CONFLICT DO NOTHING;
    END IF;
    RETURN json_build_object('number', new_number, 'until', until);
END $$;

-- A fact for the holder of a run; its id comes back, or why it was refused.
CREATE FUNCTION holdfast.put_inbox_1(of_number bigint, document text, clock double precision) RETURNS json
LANGUAGE plpgsql AS $$
DECLARE
    given record;
    head record;
    refusal json;
    new_id bigint;
BEGIN
    SELECT * INTO given FROM json_to_record(document::json) AS x(
        kind text, interrupt_id text, tool_call_id text, answer bytea, "by" text, caller text, reason text,
        created_at bigint
    );
    SELECT h.is_over, h.lease_owner, h.lease_until INTO head
    FROM heads h WHERE h.number = of_number FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN '{"refused": "run_not_found"}'::json;
    END IF;
    IF given.kind = 'answer' THEN
        refusal := refused_answer_1(of_number, given.interrupt_id, given.tool_call_id);
        IF refusal IS NOT NULL THEN
            RETURN refusal;
        END IF;
    END IF;
    IF head.is_over OR head.lease_owner IS NULL OR head.lease_until <= clock THEN
        RETURN lease_lost_1(of_number);
    END IF;
    IF given.kind = 'answer' THEN
        PERFORM answer_part_1(
            of_number, given.interrupt_id, given.tool_call_id, given.answer, given."by", given.caller, given.created_at
        );
    END IF;
    INSERT INTO inbox (number, kind, interrupt_id, tool_call_id, answer, "by", caller, reason, created_at)
    VALUES (
        of_number, given.kind, given.interrupt_id, given.tool_call_id, given.answer, given."by", given.caller,
        given.reason, given.created_at
    ) RETURNING inbox_id INTO new_id;
    RETURN json_build_object('inbox_id', new_id);
END $$;

-- A batch of writes, each at its place in all the arrays. `kinds`: a plain append, which touches nothing but its
-- journal, an append with more in its document, a start, a fact for an inbox. What is not plainly done comes back as a
-- JSON array of places and verdicts, or NULL.
CREATE FUNCTION holdfast.commit_1(
    own_process text, own_change bigint, stamp bigint, new_floor bigint, span bigint,
    kinds text, numbers bigint[], lease_epochs bigint[], tails bigint[], firsts bigint[], lasts bigint[],
    first_stamps bigint[], last_stamps bigint[], hashes bytea[], mark_lists text[], bodies bytea[], documents text[],
    queue_limits integer[]
) RETURNS text
LANGUAGE plpgsql
SET search_path = holdfast, pg_catalog, pg_temp
-- All is found by its key. A plan that was made while a table was small must not read it whole when it is big.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    clock double precision := lease_clock();
    process processes%ROWTYPE;
    is_away boolean;
    run_tenant text;
    kind text;
    verdict json;
    verdicts text;
    queued integer;
BEGIN
    SELECT * INTO process FROM processes p WHERE p.process = own_process FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'process % is not known', own_process USING ERRCODE = 'HF002';
    ELSIF process.change = own_change THEN
        RETURN process.outcome;
    ELSIF process.change > own_change THEN
        RAISE EXCEPTION 'change % of process % comes too late', own_change, own_process USING ERRCODE = 'HF003';
    END IF;
    is_away := process.floor IS NOT NULL AND process.seen_at <= clock - away_seconds_1();

    IF cardinality(numbers) > 1 THEN
        -- In the order of numbers, so that processes never wait for each other in a circle.
        PERFORM 1 FROM heads h WHERE h.number = ANY (numbers) ORDER BY h.number FOR NO KEY UPDATE;
    END IF;

    FOR i IN 1 .. cardinality(numbers) LOOP
        verdict := NULL;
        kind := substr(kinds, i, 1);
        IF kind = 'p' THEN
            UPDATE heads h SET
                tail_sequence = coalesce(lasts[i], h.tail_sequence),
                head_hash = coalesce(hashes[i], h.head_hash),
                last_timestamp = coalesce(last_stamps[i], h.last_timestamp)
            WHERE h.number = numbers[i] AND h.lease_epoch = lease_epochs[i] AND h.tail_sequence = tails[i]
            AND NOT h.is_over
            RETURNING h.tenant INTO run_tenant;
            IF NOT FOUND THEN
                verdict := lease_lost_1(numbers[i]);
            ELSIF firsts[i] IS NOT NULL THEN
                INSERT INTO segments VALUES (
                    numbers[i], firsts[i], lasts[i], first_stamps[i], last_stamps[i], run_tenant, hashes[i],
                    mark_lists[i], bodies[i]
                );
            END IF;
        ELSIF is_away AND kind <> 'a' THEN
            -- Others may have shown what is younger than its stamps.
            verdict := '{"refused": "away"}'::json;
        ELSIF kind IN ('a', 'u') THEN
            verdict := append_1(
                numbers[i], lease_epochs[i], tails[i], firsts[i], lasts[i], first_stamps[i], last_stamps[i], hashes[i],
                mark_lists[i], bodies[i], documents[i], clock
            );
            queued := NULL;
        ELSIF kind = 's' THEN
            IF queue_limits[i] IS NOT NULL AND queued IS NULL THEN
                SELECT count(*) INTO queued FROM (
                    SELECT 1 FROM runs r WHERE r.status = 'queued' LIMIT (SELECT max(l) FROM unnest(queue_limits) AS l)
                ) ahead;
            END IF;
            verdict := start_1(
                firsts[i], lasts[i], first_stamps[i], last_stamps[i], hashes[i], mark_lists[i], bodies[i],
                documents[i], coalesce(queued < queue_limits[i], true), clock
            );
            queued := queued + (queue_limits[i] IS NOT NULL AND verdict ->> 'refused' IS NULL)::integer;
        ELSE
            verdict := put_inbox_1(numbers[i], documents[i], clock);
        END IF;
        IF verdict IS NOT NULL THEN
            verdicts := concat_ws(',', verdicts, format('[%s,%s]', i - 1, verdict));
        END IF;
    END LOOP;

    verdicts := '[' || verdicts || ']';
    UPDATE processes p SET
        change = own_change,
        outcome = verdicts,
        seen_at = CASE WHEN is_away THEN p.seen_at ELSE clock END,
        floor = CASE WHEN p.floor IS NOT NULL THEN greatest(p.floor, new_floor) END,
        newest = greatest(p.newest, stamp),
        span_max = greatest(p.span_max, span)
    WHERE p.process = own_process;
    RETURN verdicts;
END $$;

-- Take runs for an owner: their numbers with their statuses as they were found come back as JSON, or NULL.
CREATE FUNCTION holdfast.claim_1(
    own_process text, own_change bigint, own_owner text, agent_names text[], at_most integer,
    lease_seconds double precision
) RETURNS text
LANGUAGE plpgsql
SET search_path = holdfast, pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    clock double precision := lease_clock();
    process processes%ROWTYPE;
    left_behind bigint[];
    pairs text;
    taken bigint[];
    begun bigint[];
BEGIN
    SELECT * INTO process FROM processes p WHERE p.process = own_process FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'process % is not known', own_process USING ERRCODE = 'HF002';
    ELSIF process.change = own_change THEN
        RETURN process.outcome;
    ELSIF process.change > own_change THEN
        RAISE EXCEPTION 'change % of process % comes too late', own_change, own_process USING ERRCODE = 'HF003';
    END IF;

    -- Looked up by themselves, in an index that holds no others; a blank name sorts first.
    left_behind := ARRAY(
        SELECT number FROM heads WHERE lease_owner >= '' AND lease_owner <> own_owner AND lease_until <= clock
        UNION ALL
        -- A holder that let a waiting run go and died before it had looked at what came for it.
        SELECT DISTINCT i.number FROM inbox i JOIN heads h USING (number) WHERE h.lease_owner IS NULL
    );
    WITH queued AS (
        SELECT r.number, r.priority, r.status FROM runs r JOIN heads h USING (number)
        WHERE r.status = 'queued' AND r.agent = ANY (agent_names) AND NOT h.is_over
        AND (h.lease_owner IS NULL OR h.lease_owner <> own_owner AND h.lease_until <= clock)
        ORDER BY r.priority DESC, r.number LIMIT at_most FOR UPDATE OF h, r SKIP LOCKED
    ), lost AS (
        SELECT r.number, r.priority, r.status FROM heads h JOIN runs r USING (number)
        WHERE h.number = ANY (left_behind) AND r.status <> 'queued' AND r.agent = ANY (agent_names)
        AND (
            h.lease_owner <> own_owner AND h.lease_until <= clock
            OR h.lease_owner IS NULL AND r.status = 'waiting'
        )
        AND NOT h.is_over
        ORDER BY r.priority DESC, r.number LIMIT at_most FOR UPDATE OF h, r SKIP LOCKED
    ), chosen AS (
        SELECT * FROM queued UNION ALL SELECT * FROM lost ORDER BY priority DESC, number LIMIT at_most
    )
    SELECT json_agg(json_build_array(number, status) ORDER BY priority DESC, number), array_agg(number),
        array_agg(number) FILTER (WHERE status = 'queued')
    INTO pairs, taken, begun FROM chosen;
    IF taken IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE heads h SET lease_owner = own_owner, lease_epoch = h.lease_epoch + 1, lease_until = clock + lease_seconds
    WHERE h.number = ANY (taken);
    UPDATE runs r SET status = 'running' WHERE r.number = ANY (begun);
    UPDATE processes p SET change = own_change, outcome = pairs WHERE p.process = own_process;
    RETURN pairs;
END $$;

-- Whether a change of a process took place, and what it came to; if it did not, it never will. Changes are numbered with
-- a gap between them, which is taken here, so that asking twice gives the same answer.
CREATE FUNCTION holdfast.settle_1(own_process text, own_change bigint, OUT was_done boolean, OUT known text)
LANGUAGE plpgsql
SET search_path = holdfast, pg_catalog, pg_temp
AS $$
DECLARE
    process processes%ROWTYPE;
BEGIN
    SELECT * INTO process FROM processes p WHERE p.process = own_process FOR NO KEY UPDATE;
    was_done := coalesce(process.change = own_change, false);
    known := process.outcome;
    UPDATE processes p SET change = own_change + 1, outcome = NULL
    WHERE p.process = own_process AND p.change < own_change;
END $$;

-- The last sequence of the last segment of a run without events younger than a timestamp; bisects, for they are many.
CREATE FUNCTION holdfast.last_before_1(
    of_number bigint, first_sequence bigint, tail_sequence bigint, timestamp_seen bigint
) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    low bigint := first_sequence - 1;  -- everything up to here is old,
    high bigint := tail_sequence;  -- and this is younger
    around record;
BEGIN
    WHILE low < high LOOP
        SELECT s.first, s.last, s.last_timestamp INTO around FROM holdfast.segments s
        WHERE s.number = of_number AND s.first <= (low + high + 1) / 2 ORDER BY s.first DESC LIMIT 1;
        IF NOT FOUND OR around.last <= low THEN
            EXIT;
        ELSIF around.last_timestamp <= timestamp_seen THEN
            low := around.last;
        ELSIF high = around.first - 1 THEN
            EXIT;
        ELSE
            high := around.first - 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;
