-- What the assistant remembers of a tenant: items of its stores (episodes, knowledge, social), feedback, its soul; and the
-- working memory of a thread. `words` is the text that an item is found by, folded: lower case, no accents, one space
-- between words.

CREATE TABLE memory_items (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    store TEXT NOT NULL,
    item_id TEXT NOT NULL,
    fields BLOB NOT NULL,  -- JSON
    scope TEXT NOT NULL,  -- names tenant and store in the index of words
    words TEXT NOT NULL,  -- '': is not searched
    source TEXT NOT NULL,
    confidence REAL NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    valid_from INTEGER,
    valid_until INTEGER,
    from_id TEXT,  -- the ends of an edge
    to_id TEXT,
    task_id TEXT,
    vector BLOB,  -- its meaning: 32-bit floats
    vector_bits BLOB,  -- their signs
    vector_model TEXT
) STRICT;

CREATE UNIQUE INDEX memory_items_by_id ON memory_items (tenant, store, item_id);
CREATE INDEX memory_items_by_time ON memory_items (tenant, store, created_at, item_id);
CREATE INDEX memory_items_by_age ON memory_items (tenant, store);  -- and by id, as every index
CREATE INDEX memory_items_by_task ON memory_items (tenant, store, task_id, created_at) WHERE task_id IS NOT NULL;
CREATE INDEX memory_items_from ON memory_items (tenant, from_id) WHERE from_id IS NOT NULL;
CREATE INDEX memory_items_to ON memory_items (tenant, to_id) WHERE to_id IS NOT NULL;
CREATE INDEX memory_items_vectors ON memory_items (tenant, store, vector_model) WHERE vector_model IS NOT NULL;

-- Words come folded, with spaces between them; whatever is not ASCII is part of a word.
CREATE VIRTUAL TABLE memory_words USING fts5(scope, words, content='', contentless_delete=1, tokenize='ascii');

CREATE VIRTUAL TABLE memory_vocabulary USING fts5vocab('memory_words', 'col');

-- How much is indexed of each store of each tenant.
CREATE TABLE memory_sizes (
    scope TEXT PRIMARY KEY,
    items INTEGER NOT NULL,
    words INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER memory_item_added AFTER INSERT ON memory_items WHEN new.words <> '' BEGIN
    INSERT INTO memory_words (rowid, scope, words) VALUES (new.id, new.scope, new.words);
    INSERT INTO memory_sizes VALUES (new.scope, 1, length(new.words) - length(replace(new.words, ' ', '')) + 1)
    ON CONFLICT DO UPDATE SET items = items + 1, words = words + excluded.words;
END;

CREATE TRIGGER memory_item_deleted AFTER DELETE ON memory_items WHEN old.words <> '' BEGIN
    DELETE FROM memory_words WHERE rowid = old.id;
    UPDATE memory_sizes SET items = items - 1,
        words = words - length(old.words) + length(replace(old.words, ' ', '')) - 1
    WHERE scope = old.scope;
END;

-- Every change of the assistant's soul, the newest is the one that holds.
CREATE TABLE memory_souls (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    caller TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX memory_souls_by_version ON memory_souls (tenant, version);

-- Every change of a thread's working memory; the newest of a key holds that is not of a superseded turn.
CREATE TABLE working_memory (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    key TEXT NOT NULL,
    value BLOB,  -- JSON; NULL: removed
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX working_memory_by_thread ON working_memory (tenant, thread_id, key, id);
