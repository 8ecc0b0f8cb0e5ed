-- The same rows as before; the endpoint of a single run is found by its name, however many there are.
DROP TRIGGER outbox_expands;

CREATE TRIGGER outbox_expands BEFORE INSERT ON outbox WHEN new.endpoint_id = '' BEGIN
    INSERT INTO outbox (endpoint_id, number, sequence, created_at)
    SELECT e.name, new.number, new.sequence, new.created_at
    FROM runs r CROSS JOIN records e ON e.kind = 'endpoint' AND e.tenant = r.tenant WHERE r.number = new.number
    UNION ALL
    SELECT e.name, new.number, new.sequence, new.created_at
    FROM runs r CROSS JOIN records e ON e.kind = 'run_endpoint' AND e.tenant = r.tenant
        AND e.name = r.metadata ->> '$.webhook_endpoint'
    WHERE r.number = new.number;
    SELECT raise(IGNORE);
END;
