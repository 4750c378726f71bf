-- Who was erased, and up to which reply: by a keyed digest, since the id itself is gone. Rows of these replies that reach
-- the log or the feedback later (from a spool, or by a receipt) lose their texts on the way. `pseudonym` stands for the
-- user in rows that stay; a user who comes back and is erased again keeps it, so that one person stays one unit.
CREATE TABLE erasures (
    tenant_id     text        NOT NULL,
    digest        bytea       NOT NULL,  -- HMAC-SHA256 of tenant and user id, keyed with a server secret
    pseudonym     text        NOT NULL,
    erased_at     timestamptz NOT NULL,
    last_response uuid        NOT NULL,  -- the last UUIDv7 of that moment: a reply's id tells when its request came in
    PRIMARY KEY (tenant_id, digest)
);
