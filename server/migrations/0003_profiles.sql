-- What is known of each user, where the profiles live here (without OPENSEARCH_URL).
CREATE EXTENSION IF NOT EXISTS vector;

DO $$ BEGIN
    IF (SELECT string_to_array(extversion, '.')::int[] < ARRAY[0, 8] FROM pg_extension WHERE extname = 'vector') THEN
        RAISE feature_not_supported USING MESSAGE = 'pgvector is older than 0.8';
    END IF;
END $$;

CREATE TABLE profiles (
    tenant_id  text        NOT NULL,
    user_id    text        NOT NULL,
    attributes jsonb       NOT NULL DEFAULT '{}',
    requests   jsonb       NOT NULL DEFAULT '[]',  -- [[request id, digest]], the newest changes of the attributes, oldest first
    mean       vector,                             -- weighted mean of embeddings; not of unit length
    weight     float8      NOT NULL DEFAULT 0 CHECK (weight >= 0),
    model      text        NOT NULL DEFAULT '',    -- the embedding model: means of two models can't be compared
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id)
);
-- The index for nearest neighbours belongs to one embedding model: server/storage/profiles.py makes it.
