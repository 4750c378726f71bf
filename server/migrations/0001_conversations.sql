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
    total_seconds         float8      NOT NULL,
    degradations          jsonb       NOT NULL,  -- [{"reason", "detail"}]
    transaction_id        xid8        NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (tenant_id, response_id)
) PARTITION BY RANGE (response_id);

-- Who follows the log reads what lies below pg_snapshot_xmin(pg_current_snapshot()): commits land out of order.
CREATE INDEX conversation_logs_by_transaction ON conversation_logs (transaction_id);

CREATE TABLE conversation_logs_default PARTITION OF conversation_logs DEFAULT;

CREATE INDEX conversation_logs_by_session ON conversation_logs (tenant_id, user_id, session_id, response_id);

-- Who came first with a request id. A table of its own: a partitioned table's unique keys must hold its partition key.
CREATE TABLE request_keys (
    tenant_id   text  NOT NULL,
    request_id  text  NOT NULL,
    response_id uuid  NOT NULL,
    fingerprint bytea NOT NULL,  -- SHA-256 of what was asked
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);

CREATE INDEX request_keys_by_response ON request_keys (response_id);
