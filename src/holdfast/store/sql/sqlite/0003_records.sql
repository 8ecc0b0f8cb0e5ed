-- Small named things that APIs keep beside runs: registered tools, feedback, the endpoints of webhooks.
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    number INTEGER,  -- of the run that it goes with
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX records_by_name ON records (kind, tenant, name);
CREATE INDEX records_by_run ON records (number) WHERE number IS NOT NULL;

-- What is sent to endpoints, and how that went.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    delivery_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    number INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    status TEXT NOT NULL,  -- pending, delivered, failed, held
    body BLOB NOT NULL,
    attempts BLOB NOT NULL,
    tries INTEGER NOT NULL,  -- since it was last scheduled anew
    next_attempt_at INTEGER,
    locked_until INTEGER NOT NULL,  -- somebody is sending it
    created_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX deliveries_by_id ON deliveries (delivery_id);
CREATE UNIQUE INDEX deliveries_by_event ON deliveries (endpoint_id, event_id);
CREATE INDEX deliveries_due ON deliveries (next_attempt_at) WHERE status = 'pending';
CREATE INDEX deliveries_by_run ON deliveries (number);
CREATE INDEX deliveries_by_age ON deliveries (created_at);

-- A row without an endpoint stands for those that want to hear of the run: all of its tenant, and the one that its start
-- named. It becomes a row for each of them in the transaction of the event, and is not kept itself.
CREATE TRIGGER outbox_expands BEFORE INSERT ON outbox WHEN new.endpoint_id = '' BEGIN
    INSERT INTO outbox (endpoint_id, number, sequence, created_at)
    SELECT e.name, new.number, new.sequence, new.created_at
    FROM runs r JOIN records e ON e.tenant = r.tenant AND (
        e.kind = 'endpoint' OR (e.kind = 'run_endpoint' AND e.name = r.metadata ->> '$.webhook_endpoint')
    )
    WHERE r.number = new.number AND e.kind IN ('endpoint', 'run_endpoint');
    SELECT raise(IGNORE);
END;
