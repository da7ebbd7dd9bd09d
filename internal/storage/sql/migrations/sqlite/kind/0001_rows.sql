CREATE TABLE {kind} (
    id        INTEGER PRIMARY KEY,
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    uid       TEXT    NOT NULL,
    revision  INTEGER NOT NULL,
    created   INTEGER NOT NULL, -- microseconds since 1970 UTC
    labels    TEXT    NOT NULL, -- JSON object of strings
    fields    TEXT    NOT NULL, -- JSON object of strings
    owners    TEXT    NOT NULL, -- JSON array of UIDs
    payload   BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX {kind}_key ON {kind} (namespace, name);

-- Posting lists: which rows carry a label, a field value or an owner, in the
-- order in which lists are served. term is a hash; rows are always rechecked.
CREATE TABLE {kind}_terms (
    term      INTEGER NOT NULL,
    namespace TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    id        INTEGER NOT NULL,
    PRIMARY KEY (term, namespace, name)
) STRICT, WITHOUT ROWID;
