-- The same rows as before; the endpoint of a single run is found by its name, however many there are, and where there is no
-- endpoint at all, that is all that is looked for.
CREATE OR REPLACE FUNCTION holdfast.expand_outbox_3() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM holdfast.records WHERE kind = 'endpoint')
        OR EXISTS (SELECT 1 FROM holdfast.records WHERE kind = 'run_endpoint')
    THEN
        INSERT INTO holdfast.outbox (endpoint_id, number, sequence, created_at)
        SELECT e.name, new.number, new.sequence, new.created_at
        FROM holdfast.runs r JOIN holdfast.records e ON e.kind = 'endpoint' AND e.tenant = r.tenant
        WHERE r.number = new.number
        UNION ALL
        SELECT e.name, new.number, new.sequence, new.created_at
        FROM holdfast.runs r JOIN holdfast.records e ON e.kind = 'run_endpoint' AND e.tenant = r.tenant
            AND md5(e.name) = md5(r.metadata::json ->> 'webhook_endpoint')
            AND e.name = r.metadata::json ->> 'webhook_endpoint'
        WHERE r.number = new.number
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;
