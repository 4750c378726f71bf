CREATE EXTENSION IF NOT EXISTS vector;

-- What the docs tool finds evidence in. `document_id` derives from tenant and uri (UUIDv5), so it outlives replacements.
CREATE TABLE documents (
    tenant_id       text        NOT NULL,
    document_id     uuid        NOT NULL,
    uri             text        NOT NULL COLLATE "C",
    title           text        NOT NULL,
    media_type      text        NOT NULL,
    size_bytes      bigint      NOT NULL,
    passage_count   integer     NOT NULL,
    content_sha256  bytea       NOT NULL,
    reading         bytea       NOT NULL,  -- SHA-256 of all that the passages were made from: content, options, versions
    embedding_model text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, document_id),
    UNIQUE (tenant_id, uri)
);

-- `words` is made by server/documents/words.py. There is an index for each dimension in use (server/storage/passages.py
-- makes them), and vectors stay in the row, where comparing many of them is fast.
CREATE TABLE passages (
    tenant_id       text     NOT NULL,
    document_id     uuid     NOT NULL,
    number          integer  NOT NULL,
    title           text     NOT NULL,
    text            text     NOT NULL,
    words           tsvector NOT NULL,
    embedding       vector   STORAGE MAIN NOT NULL,
    dimension       integer  NOT NULL,
    embedding_model text     NOT NULL,
    PRIMARY KEY (tenant_id, document_id, number),
    FOREIGN KEY (tenant_id, document_id) REFERENCES documents ON DELETE CASCADE
);

-- Without fastupdate: after many additions, searches would go through the list of what is pending.
CREATE INDEX passages_by_words ON passages USING gin (words) WITH (fastupdate = off);

-- Counts the changes to a tenant's documents, for those who keep a digest of them.
CREATE TABLE document_libraries (
    tenant_id text   PRIMARY KEY,
    version   bigint NOT NULL
);

-- What the requests with an id did, for those who repeat them.
CREATE TABLE document_requests (
    tenant_id   text        NOT NULL,
    request_id  text        NOT NULL,
    fingerprint bytea       NOT NULL,
    outcome     jsonb       NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);
