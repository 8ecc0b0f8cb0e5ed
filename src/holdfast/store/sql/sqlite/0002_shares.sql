-- Tenants take turns in the queue, and what executes is counted: both are read from this one index alone.
DROP INDEX runs_active;

-- A query uses this only where it repeats the whole condition.
CREATE INDEX runs_active ON runs (status, tenant, priority DESC, number, agent, parent)
WHERE status IN ('queued', 'running', 'waiting');

-- What other runs wait for: it is not held back by its tenant's limit.
CREATE INDEX runs_queued_children ON runs (priority DESC, number, agent) WHERE status = 'queued' AND parent IS NOT NULL;
