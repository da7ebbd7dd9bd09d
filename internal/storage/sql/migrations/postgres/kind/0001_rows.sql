CREATE TABLE {kind} (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    uid       text   NOT NULL,
    revision  bigint NOT NULL,
    created   bigint NOT NULL, -- microseconds since 1970 UTC
    labels    text   NOT NULL, -- JSON object of strings
    fields    text   NOT NULL, -- JSON object of strings
    owners    text   NOT NULL, -- JSON array of UIDs
    payload   bytea  NOT NULL
);
CREATE UNIQUE INDEX {kind}_key ON {kind} (namespace, name);

-- Posting lists: which rows carry a label, a field value or an owner, in the
-- order in which lists are served. term is a hash; rows are always rechecked.
CREATE TABLE {kind}_terms (
    term      bigint NOT NULL,
    namespace text COLLATE "C" NOT NULL,
    name      text COLLATE "C" NOT NULL,
    id        bigint NOT NULL,
    PRIMARY KEY (term, namespace, name) INCLUDE (id)
);
