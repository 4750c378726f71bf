-- The log of every reply. `response_id` is a UUIDv7: it sorts by time and partitions the log by month
-- (server/storage/partitions.py adds the months; the default partition takes what has none).
CREATE TABLE conversation_logs (
    tenant_id             text        NOT NULL,
    response_id           uuid        NOT NULL,
    request_id            text        NOT NULL DEFAULT '',
    user_id               text        NOT NULL DEFAULT '',
    session_id            text        NOT NULL DEFAULT '',
    "timestamp"           timestamptz NOT NULL,
    query                 text        NOT NULL,
    context               jsonb       NOT NULL,  -- {"given": text, "turns": [{"query", "response"}]}
    selected_response     text        NOT NULL,
    reward_score          float8      CHECK (reward_score BETWEEN 0 AND 1),
    all_candidates        jsonb       NOT NULL,
    generation_method     text        NOT NULL,
    feedback_prompt       boolean     NOT NULL,
    selection_method      text        NOT NULL,
    selection_probability float8      NOT NULL CHECK (selection_probability BETWEEN 0 AND 1),
    policy_release        text        NOT NULL,
    reward_release        text        NOT NULL DEFAULT '',
    seed                  bigint      NOT NULL,
    seed_honored          boolean     NOT NULL,
    latencies             jsonb       NOT NULL,  -- seconds by stage
    degradations          jsonb       NOT NULL,  -- [{"reason", "detail"}]
    PRIMARY KEY (tenant_id, response_id)
) PARTITION BY RANGE (response_id);

CREATE TABLE conversation_logs_default PARTITION OF conversation_logs DEFAULT;

CREATE INDEX conversation_logs_by_session ON conversation_logs (tenant_id, user_id, session_id, response_id);

-- Who came first with a request id. A table of its own: a partitioned table's unique keys must hold its partition key.
CREATE TABLE request_keys (
    tenant_id   text  NOT NULL,
    request_id  text  NOT NULL,
    response_id uuid  NOT NULL,
    fingerprint bytea NOT NULL,  -- SHA-256 of what was asked
    PRIMARY KEY (tenant_id, request_id)
);
