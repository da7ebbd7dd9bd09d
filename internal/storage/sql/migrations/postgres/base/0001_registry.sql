-- One counter gives every write transaction its revision.
CREATE SEQUENCE gatehouse_revision AS bigint;

-- The kinds whose tables exist, with the version of their field derivation.
CREATE TABLE gatehouse_kinds (
    name    text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL
);
