-- Times are microseconds since 1970, leases seconds of the process's monotonic clock, structured values JSON.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

-- What seldom changes of a run.
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    agent TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    thread_id TEXT,
    parent INTEGER,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    superseded INTEGER NOT NULL,
    input BLOB NOT NULL,
    output BLOB,
    error TEXT,
    cancel TEXT,
    usage BLOB,
    caller TEXT NOT NULL,
    role TEXT NOT NULL,
    trust TEXT NOT NULL,
    metadata TEXT NOT NULL,
    timeout_seconds REAL,
    executed_seconds REAL NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    epoch INTEGER NOT NULL,
    epochs TEXT NOT NULL,
    first_sequence INTEGER NOT NULL,
    prior_hash BLOB NOT NULL,
    is_pruned INTEGER NOT NULL DEFAULT 0  -- nothing but the last segment is left
) STRICT;

CREATE UNIQUE INDEX runs_by_id ON runs (tenant, run_id);
CREATE INDEX runs_by_tenant ON runs (tenant, number);
CREATE INDEX runs_by_thread ON runs (tenant, thread_id, number) WHERE thread_id IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL;
-- A query uses this only where it repeats the whole condition.
CREATE INDEX runs_active ON runs (status, priority DESC, number, agent) WHERE status IN ('queued', 'running', 'waiting');
CREATE INDEX runs_ended ON runs (ended_at, is_pruned) WHERE ended_at IS NOT NULL;

-- What every append changes, apart from the rest so that many runs share a page: a commit writes whole pages.
CREATE TABLE heads (
    number INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    lease_owner TEXT,  -- '': its holder is gone, whoever comes may claim it
    lease_epoch INTEGER NOT NULL,
    lease_until REAL,
    tail_sequence INTEGER NOT NULL,
    head_hash BLOB NOT NULL,
    last_timestamp INTEGER NOT NULL,
    is_over INTEGER NOT NULL  -- the run's status is final
) STRICT;

CREATE INDEX heads_leased ON heads (number) WHERE lease_owner IS NOT NULL;

-- In the order of commits: one more page for all the segments of a commit, however many runs they are of.
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    first_timestamp INTEGER NOT NULL,
    last_timestamp INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    hash BLOB NOT NULL,
    marks TEXT,
    body BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX segments_by_run ON segments (number, first);
CREATE INDEX segments_by_time ON segments (tenant, first_timestamp, last_timestamp);

CREATE TABLE steps (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    at_most_once INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    completed_at INTEGER,
    output BLOB,
    error TEXT,
    sequence INTEGER,
    reused INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX steps_by_key ON steps (number, key);

CREATE TABLE interrupts (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    interrupt_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    thread_id TEXT,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    step TEXT NOT NULL,
    question TEXT NOT NULL,
    choices TEXT,
    reason TEXT,
    tool TEXT,
    tool_call_id TEXT,
    input BLOB,
    rule TEXT,
    input_hash TEXT,
    round INTEGER,
    answer_role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    resolved_at INTEGER,
    sequence INTEGER,
    resolved_sequence INTEGER
) STRICT;

CREATE UNIQUE INDEX interrupts_by_id ON interrupts (number, interrupt_id);
CREATE INDEX interrupts_pending ON interrupts (tenant, created_at, id) WHERE status = 'pending';
CREATE INDEX interrupts_resolved ON interrupts (tenant, thread_id, resolved_at) WHERE status = 'resolved';

CREATE TABLE interrupt_parts (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    interrupt_id TEXT NOT NULL,
    tool_call_id TEXT NOT NULL,
    tool TEXT NOT NULL,
    namespace TEXT NOT NULL,
    input BLOB NOT NULL,
    expires_at INTEGER,
    on_expiry TEXT NOT NULL,
    "default" BLOB,
    answer BLOB,
    "by" TEXT,
    caller TEXT,
    answered_at INTEGER,
    claim_worker TEXT,
    claim_number INTEGER NOT NULL,
    claim_until INTEGER,
    is_open INTEGER NOT NULL  -- without an answer, of a pending interrupt
) STRICT;

CREATE UNIQUE INDEX parts_by_id ON interrupt_parts (number, interrupt_id, tool_call_id);
CREATE INDEX parts_due ON interrupt_parts (expires_at) WHERE is_open AND expires_at IS NOT NULL;

CREATE TABLE inbox (
    inbox_id INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    interrupt_id TEXT NOT NULL,
    tool_call_id TEXT NOT NULL,
    answer BLOB NOT NULL,
    "by" TEXT NOT NULL,
    caller TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX inbox_by_run ON inbox (number);

CREATE TABLE threads (
    tenant TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    agent TEXT NOT NULL,
    active INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    last_timestamp INTEGER NOT NULL,
    pruned_timestamp INTEGER NOT NULL DEFAULT 0,  -- of the newest event that retention dropped
    PRIMARY KEY (tenant, thread_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX threads_pruned ON threads (tenant, pruned_timestamp) WHERE pruned_timestamp > 0;

CREATE INDEX threads_by_change ON threads (tenant, updated_at, thread_id);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    media BLOB NOT NULL,
    detail BLOB,
    created_at INTEGER NOT NULL,
    superseded INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX messages_by_id ON messages (tenant, thread_id, message_id);
CREATE INDEX messages_by_thread ON messages (tenant, thread_id, id);
CREATE INDEX messages_by_run ON messages (number);

CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    number INTEGER,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (tenant, method, path, key)
) STRICT;

CREATE INDEX idempotency_by_run ON idempotency (number) WHERE number IS NOT NULL;
CREATE INDEX idempotency_by_end ON idempotency (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    role TEXT NOT NULL,
    tenant TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE UNIQUE INDEX api_keys_in_force ON api_keys (name) WHERE revoked_at IS NULL;

CREATE TABLE files (
    tenant TEXT NOT NULL,
    file_id TEXT NOT NULL,
    number INTEGER,
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, file_id)
) STRICT;

CREATE INDEX files_by_run ON files (number, created_at);
CREATE INDEX files_by_content ON files (sha256);

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX outbox_by_event ON outbox (number, sequence, endpoint_id);
