-- Fair shares: tenants take turns in the queue, and how many runs execute at once may be limited, for each tenant and for
-- each agent, over all processes. What is limited is counted under one lock, so that processes that start or claim at
-- the same moment do not count the same free place. Where nothing is limited, nobody takes the lock to start.

SET LOCAL search_path = holdfast, pg_catalog, pg_temp;  -- as the procedures have it that are called from outside

DROP INDEX holdfast.runs_active;

CREATE INDEX runs_active ON holdfast.runs (status, tenant, priority DESC, number, agent, parent)
WHERE status IN ('queued', 'running', 'waiting');

-- What other runs wait for: it is not held back by its tenant's limit.
CREATE INDEX runs_queued_children ON holdfast.runs (priority DESC, number, agent)
WHERE status = 'queued' AND parent IS NOT NULL;

-- Held to the end of the transaction. Whoever comes next sees what was committed under it.
CREATE FUNCTION holdfast.take_turns_2() RETURNS void
LANGUAGE sql VOLATILE AS 'SELECT pg_advisory_xact_lock(4712895173263741272)';

-- Whether a run may begin at once: its tenant and its agent execute fewer than they may, and nothing as urgent waits.
CREATE FUNCTION holdfast.has_place_2(
    of_tenant text, of_agent text, own_priority integer, tenant_limit integer, agent_limit integer
) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF tenant_limit IS NOT NULL AND (
        tenant_limit <= (
            SELECT count(*) FROM (
                SELECT 1 FROM runs r WHERE r.status = 'running' AND r.tenant = of_tenant AND r.parent IS NULL
                LIMIT tenant_limit
            ) busy
        ) OR EXISTS (
            SELECT 1 FROM runs r
            WHERE r.status = 'queued' AND r.tenant = of_tenant AND r.priority >= own_priority AND r.parent IS NULL
        )
    ) THEN
        RETURN false;
    END IF;
    RETURN agent_limit IS NULL OR agent_limit > (
        SELECT count(*) FROM (
            SELECT 1 FROM runs r WHERE r.status = 'running' AND r.agent = of_agent LIMIT agent_limit
        ) busy
    ) AND NOT EXISTS (
        SELECT 1 FROM runs r WHERE r.status = 'queued' AND r.agent = of_agent AND r.priority >= own_priority
    );
END $$;

-- Which runs an owner should take, and in which turn: of each tenant that has room as many as are asked for, then all by
-- how many their tenant executes. `agent_limits` go with `agent_names`; NULL is no limit.
CREATE FUNCTION holdfast.choose_2(
    own_owner text, agent_names text[], agent_limits integer[], tenant_limit integer, at_most integer
) RETURNS TABLE (number bigint, status text, turn bigint)
LANGUAGE plpgsql
SET search_path = holdfast, pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    clock double precision := lease_clock();
    busy integer[];
    open_names text[];
BEGIN
    IF num_nonnulls(VARIADIC agent_limits) > 0 THEN
        busy := ARRAY(
            SELECT coalesce(e.busy, 0) FROM unnest(agent_names) WITH ORDINALITY AS a (name, place)
            LEFT JOIN (
                SELECT r.agent, count(*) AS busy FROM runs r WHERE r.status = 'running' GROUP BY r.agent
            ) e ON e.agent = a.name ORDER BY a.place
        );
    END IF;
    open_names := ARRAY(
        SELECT a.name FROM unnest(agent_names, agent_limits, busy) AS a (name, most, busy)
        WHERE a.most IS NULL OR a.busy < a.most
    );
    RETURN QUERY
    WITH RECURSIVE tenants AS (
        SELECT (SELECT min(r.tenant) FROM runs r WHERE r.status = 'queued') AS tenant
        UNION ALL
        SELECT (SELECT min(r.tenant) FROM runs r WHERE r.status = 'queued' AND r.tenant > t.tenant)
        FROM tenants t WHERE t.tenant IS NOT NULL
    ), shares AS MATERIALIZED (
        SELECT t.tenant, (
            SELECT count(*) FROM runs r WHERE r.status = 'running' AND r.tenant = t.tenant AND r.parent IS NULL
        ) AS busy FROM tenants t WHERE t.tenant IS NOT NULL
    ), lost AS MATERIALIZED (
        -- A blank name sorts first.
        SELECT h.number FROM heads h
        WHERE h.lease_owner >= '' AND h.lease_owner <> own_owner AND h.lease_until <= clock
        UNION
        -- A holder that let a waiting run go and died before it had looked at what came for it.
        SELECT i.number FROM inbox i JOIN heads h USING (number) JOIN runs r USING (number)
        WHERE h.lease_owner IS NULL AND r.status = 'waiting'
    ), candidates AS (
        SELECT q.*, 1 AS of_tenant, 1 AS of_agent FROM shares s, LATERAL (
            SELECT r.number, r.status, r.tenant, r.agent, r.priority FROM runs r JOIN heads h USING (number)
            WHERE r.status = 'queued' AND r.tenant = s.tenant AND r.parent IS NULL AND r.agent = ANY (open_names)
            AND NOT h.is_over AND (h.lease_owner IS NULL OR h.lease_owner <> own_owner AND h.lease_until <= clock)
            ORDER BY r.priority DESC, r.number LIMIT at_most
        ) q WHERE tenant_limit IS NULL OR s.busy < tenant_limit
        UNION ALL
        SELECT q.number, q.status, q.tenant, q.agent, q.priority, 0, (NOT q.is_own)::integer FROM (
            SELECT r.number, r.status, r.tenant, r.agent, r.priority, p.agent IS NOT DISTINCT FROM r.agent AS is_own
            FROM runs r JOIN heads h USING (number) LEFT JOIN runs p ON p.number = r.parent
            WHERE r.status = 'queued' AND r.parent IS NOT NULL AND r.agent = ANY (agent_names)
            AND (r.agent = ANY (open_names) OR p.agent = r.agent)
            AND NOT h.is_over AND (h.lease_owner IS NULL OR h.lease_owner <> own_owner AND h.lease_until <= clock)
            ORDER BY r.priority DESC, r.number LIMIT at_most
        ) q
        UNION ALL
        SELECT r.number, r.status, r.tenant, r.agent, r.priority, 0, 0
        FROM lost l JOIN heads h USING (number) JOIN runs r USING (number)
        WHERE r.status <> 'queued' AND r.agent = ANY (agent_names) AND NOT h.is_over
    ), placed AS (
        SELECT c.*, coalesce(s.busy, 0) + row_number() OVER mine AS place,
            coalesce(s.busy, 0) + sum(c.of_tenant) OVER mine AS share
        FROM candidates c LEFT JOIN shares s USING (tenant)
        WINDOW mine AS (PARTITION BY c.tenant ORDER BY c.priority DESC, c.number ROWS UNBOUNDED PRECEDING)
    ), fitting AS (
        SELECT p.*, sum(p.of_agent) OVER (
            PARTITION BY p.agent ORDER BY p.place, p.priority DESC, p.number ROWS UNBOUNDED PRECEDING
        ) AS share_of_agent
        FROM placed p WHERE p.of_tenant = 0 OR tenant_limit IS NULL OR p.share <= tenant_limit
    )
    SELECT f.number, f.status, row_number() OVER (ORDER BY f.place, f.priority DESC, f.number)
    FROM fitting f JOIN unnest(agent_names, agent_limits, busy) AS a (name, most, busy) ON a.name = f.agent
    WHERE f.of_agent = 0 OR a.most IS NULL OR a.busy + f.share_of_agent <= a.most
    ORDER BY 3 LIMIT at_most;
END $$;

-- Insert steps and interrupts of a run, or replace them.
CREATE FUNCTION holdfast.record_2(of_number bigint, given_steps json, given_interrupts json, given_parts json) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF given_steps IS NOT NULL THEN
        INSERT INTO steps AS s (
            number, key, name, status, attempts, at_most_once, started_at, completed_at, output, error, sequence, reused
        )
        SELECT of_number, x.* FROM json_to_recordset(given_steps) AS x(
            key text, name text, status text, attempts integer, at_most_once boolean, started_at bigint,
            completed_at bigint, output bytea, error text, sequence bigint, reused boolean
        )
        ON CONFLICT (number, md5(key)) DO UPDATE SET
            name = excluded.name, status = excluded.status, attempts = excluded.attempts,
            at_most_once = excluded.at_most_once, started_at = excluded.started_at,
            completed_at = excluded.completed_at, output = excluded.output, error = excluded.error,
            sequence = excluded.sequence, reused = excluded.reused;
    END IF;
    IF given_interrupts IS NOT NULL THEN
        INSERT INTO interrupts AS i (
            number, tenant, thread_id, interrupt_id, kind, status, step, question, choices, reason, tool, tool_call_id,
            input, rule, input_hash, round, answer_role, created_at, resolved_at, sequence, resolved_sequence
        )
        SELECT of_number, r.tenant, r.thread_id, x.* FROM runs r, json_to_recordset(given_interrupts) AS x(
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
        SELECT of_number, x.* FROM json_to_recordset(given_parts) AS x(
            interrupt_id text, tool_call_id text, tool text, namespace text, input bytea, expires_at bigint,
            on_expiry text, "default" bytea, answer bytea, "by" text, caller text, answered_at bigint,
            claim_worker text, claim_number bigint, claim_until bigint, is_open boolean
        )
        ON CONFLICT (number, interrupt_id, md5(tool_call_id)) DO NOTHING;
        UPDATE interrupt_parts p SET is_open = false
        FROM json_to_recordset(given_interrupts) AS x(interrupt_id text, status text)
        WHERE x.status <> 'pending' AND p.number = of_number AND p.interrupt_id = x.interrupt_id AND p.is_open;
    END IF;
END $$;

-- A run with its first events. Its number and the end of its lease come back (NULL: it was queued), or why it was refused.
-- Two processes may find the same id, thread or key free at the same moment; then one of them has to look again: HF001.
CREATE FUNCTION holdfast.start_2(
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
        message json, idempotency json, supersedes bigint[], outbox json, now bigint, steps json, interrupts json,
        parts json, tenant_runs_max integer, agent_runs_max integer, tenant_queued_max integer
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
        SELECT t.active, t.last_timestamp, r.run_id, r.status INTO busy
        FROM threads t LEFT JOIN runs r ON r.number = t.active
        WHERE t.tenant = given.tenant AND t.thread_id = given.thread_id;
        IF busy.active IS NOT NULL THEN
            RETURN json_build_object('refused', 'thread_busy', 'run_id', busy.run_id, 'status', busy.status);
        ELSIF busy.last_timestamp + 2 > first_stamp THEN
            -- The clocks of processes differ, and within a thread time only grows, by two microseconds at least.
            RETURN json_build_object('refused', 'behind', 'newest', busy.last_timestamp);
        END IF;
    END IF;
    IF given.lease_owner IS NOT NULL AND num_nonnulls(given.tenant_runs_max, given.agent_runs_max) > 0
        AND NOT has_place_2(
            given.tenant, given.agent, given.priority, given.tenant_runs_max, given.agent_runs_max
        )
    THEN
        given.status := 'queued';
        given.lease_owner := NULL;
        given.lease_epoch := 0;
    END IF;
    IF given.status = 'queued' THEN
        IF given.tenant_queued_max <= (
            SELECT count(*) FROM (
                SELECT 1 FROM runs r WHERE r.status = 'queued' AND r.tenant = given.tenant LIMIT given.tenant_queued_max
            ) ahead
        ) THEN
            RETURN '{"refused": "tenant_queue_full"}'::json;
        ELSIF NOT has_room THEN
            RETURN '{"refused": "queue_full"}'::json;
        END IF;
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
        WHERE t.active IS NULL AND t.last_timestamp + 2 <= first_stamp;
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
    IF given.steps IS NOT NULL OR given.interrupts IS NOT NULL THEN
        PERFORM record_2(new_number, given.steps, given.interrupts, given.parts);
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

-- A batch of writes as `commit_1` takes them. One kind more: a start that may be held back by a limit.
CREATE FUNCTION holdfast.commit_2(
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
    IF position('l' IN kinds) > 0 THEN
        -- Before any run is locked, so that processes never wait for each other in a circle.
        PERFORM take_turns_2();
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
        ELSIF kind <> 'a' AND (is_away OR first_stamps[i] <= process.floor) THEN
            -- Others may have shown what is younger than its stamps: it is away, or was when they were given.
            verdict := '{"refused": "away"}'::json;
        ELSIF kind IN ('a', 'u') THEN
            verdict := append_1(
                numbers[i], lease_epochs[i], tails[i], firsts[i], lasts[i], first_stamps[i], last_stamps[i], hashes[i],
                mark_lists[i], bodies[i], documents[i], clock
            );
            queued := NULL;
        ELSIF kind IN ('s', 'l') THEN
            IF queue_limits[i] IS NOT NULL AND queued IS NULL THEN
                SELECT count(*) INTO queued FROM (
                    SELECT 1 FROM runs r WHERE r.status = 'queued' LIMIT (SELECT max(l) FROM unnest(queue_limits) AS l)
                ) ahead;
            END IF;
            verdict := start_2(
                firsts[i], lasts[i], first_stamps[i], last_stamps[i], hashes[i], mark_lists[i], bodies[i],
                documents[i], coalesce(queued < queue_limits[i], true), clock
            );
            queued := queued + (
                queue_limits[i] IS NOT NULL AND verdict ->> 'refused' IS NULL AND verdict ->> 'until' IS NULL
            )::integer;
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
CREATE FUNCTION holdfast.claim_2(
    own_process text, own_change bigint, own_owner text, agent_names text[], agent_limits integer[],
    tenant_limit integer, at_most integer, lease_seconds double precision
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
    the_tenant text;
    last_tenant text;
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
    ELSIF process.floor IS NOT NULL AND process.seen_at <= clock - away_seconds_1() THEN
        -- With a run it would be waited for again, and readers were shown more than its floor. It announces itself first.
        RETURN NULL;
    END IF;

    SELECT min(r.tenant), max(r.tenant) INTO the_tenant, last_tenant FROM runs r WHERE r.status = 'queued';
    IF the_tenant IS NOT DISTINCT FROM last_tenant AND tenant_limit IS NULL AND num_nonnulls(VARIADIC agent_limits) = 0 THEN
        -- Nobody to take turns with, and nothing to count: processes share the queue and wait for nobody.
        -- Looked up by themselves, in an index that holds no others; a blank name sorts first.
        left_behind := ARRAY(
            SELECT number FROM heads WHERE lease_owner >= '' AND lease_owner <> own_owner AND lease_until <= clock
            UNION ALL
            -- A holder that let a waiting run go and died before it had looked at what came for it.
            SELECT DISTINCT i.number FROM inbox i JOIN heads h USING (number) WHERE h.lease_owner IS NULL
        );
        WITH queued AS (
            SELECT r.number, r.priority, r.status FROM runs r JOIN heads h USING (number)
            WHERE r.status = 'queued' AND r.tenant = the_tenant AND r.agent = ANY (agent_names) AND NOT h.is_over
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
    ELSE
        PERFORM take_turns_2();
        WITH chosen AS MATERIALIZED (
            SELECT * FROM choose_2(own_owner, agent_names, agent_limits, tenant_limit, at_most)
        ), locked AS (
            SELECT r.number, r.status, c.turn FROM chosen c JOIN heads h USING (number) JOIN runs r USING (number)
            WHERE NOT h.is_over AND r.status = c.status
            AND (h.lease_owner IS NULL OR h.lease_owner <> own_owner AND h.lease_until <= clock)
            ORDER BY c.turn FOR UPDATE OF h, r SKIP LOCKED
        )
        SELECT json_agg(json_build_array(number, status) ORDER BY turn), array_agg(number),
            array_agg(number) FILTER (WHERE status = 'queued')
        INTO pairs, taken, begun FROM locked;
    END IF;
    IF taken IS NULL THEN
        RETURN NULL;
    END IF;
    UPDATE heads h SET lease_owner = own_owner, lease_epoch = h.lease_epoch + 1, lease_until = clock + lease_seconds
    WHERE h.number = ANY (taken);
    UPDATE runs r SET status = 'running' WHERE r.number = ANY (begun);
    UPDATE processes p SET change = own_change, outcome = pairs WHERE p.process = own_process;
    RETURN pairs;
END $$;

-- The clock of readers of all tasks. Both stood in version 1 in an earlier form.

-- Up to which timestamp everything is committed; NULL: no process has announced itself. Of a process that is away but
-- whose runs nobody took, events may still come: it is waited for, up to ten minutes. STABLE, so that it sees what the
-- query sees that asks: a floor of a later moment would vouch for events that the query does not see.
CREATE OR REPLACE FUNCTION holdfast.common_floor_1() RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT min(p.floor) FROM holdfast.processes p, holdfast.lease_clock() AS clock
    WHERE p.floor IS NOT NULL AND (
        p.seen_at > clock - holdfast.away_seconds_1()
        OR p.seen_at > clock - 600 AND EXISTS (SELECT 1 FROM holdfast.heads h WHERE h.lease_owner = p.owner)
    )
$$;

-- Tell that a process lives; the floor that it has now comes back, and whether it has just joined the others. One that
-- joins calls again: only when its row is seen by all can it know what was shown without it.
CREATE OR REPLACE FUNCTION holdfast.announce_1(
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
    -- Who was away but held runs was waited for, as long as `common_floor_1` says; what it has pending may still come.
    has_joined := own.floor IS NULL OR own.seen_at <= clock - away_seconds_1() AND NOT (
        own.seen_at > clock - 600 AND EXISTS (SELECT 1 FROM heads h WHERE h.lease_owner = own.owner)
    );
    new_floor := greatest(own_floor, own.floor);
    IF has_joined OR is_second THEN
        new_floor := greatest(new_floor, (SELECT max(floor) FROM processes));
    END IF;
    UPDATE processes SET owner = own_owner, agents = own_agents, seen_at = clock, floor = new_floor
    WHERE process = own_process;
END $$;
