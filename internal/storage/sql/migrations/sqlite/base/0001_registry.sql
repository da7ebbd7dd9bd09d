-- One counter gives every write transaction its revision.
CREATE TABLE gatehouse_revision (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    value INTEGER NOT NULL
) STRICT;
INSERT INTO gatehouse_revision (one, value) VALUES (1, 0);

-- The kinds whose tables exist, with the version of their field derivation.
CREATE TABLE gatehouse_kinds (
    name    TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT;
