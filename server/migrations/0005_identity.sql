-- Who may call. The secret of a key is known to its owner only; what is kept is the SHA-256 of its 256 random bits.
CREATE TABLE api_keys (
    key_id     text        PRIMARY KEY CHECK (key_id ~ '^[0-9a-z]{8,32}$'),
    tenant_id  text        NOT NULL,
    name       text        NOT NULL,
    digest     bytea       NOT NULL UNIQUE,
    roles      text[]      NOT NULL CHECK (roles <@ ARRAY['caller', 'rater', 'operator', 'trainer'] AND cardinality(roles) > 0),
    user_id    text        NOT NULL DEFAULT '',  -- set: the key acts for this user only
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

-- Secrets that all server processes share, such as the one that receipts are signed with. The newest signs, all verify.
CREATE TABLE server_secrets (
    purpose    text        NOT NULL,
    secret_id  integer     NOT NULL,
    secret     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (purpose, secret_id)
);
