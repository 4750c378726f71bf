-- The arm that a reply belonged to. Outside of experiments and rollouts there is one: the champion, with all traffic.
ALTER TABLE conversation_logs
    ADD COLUMN arm       text    NOT NULL DEFAULT 'champion',
    ADD COLUMN arm_share float8  NOT NULL DEFAULT 1 CHECK (arm_share BETWEEN 0 AND 1),
    ADD COLUMN erased    boolean NOT NULL DEFAULT false;

-- The current feedback: one for a reply, user and kind. `context`, `arm`, `arm_share` and `selection_probability` are
-- taken from the reply's log row; they are NULL while that row still waits in a spool.
CREATE TABLE feedback_data (
    tenant_id             text        NOT NULL,
    feedback_id           uuid        NOT NULL,  -- UUIDv7
    response_id           uuid        NOT NULL,
    user_id               text        NOT NULL DEFAULT '',
    session_id            text        NOT NULL DEFAULT '',
    kind                  text        NOT NULL CHECK (kind IN ('rating', 'safety_report', 'preference')),
    rating_overall        smallint    CHECK (rating_overall BETWEEN 1 AND 5),
    rating_dimensions     jsonb       NOT NULL DEFAULT '{}',  -- {"accuracy": 1 to 5, "helpfulness", "clarity", "safety"}
    text_feedback         text        NOT NULL DEFAULT '',
    reaction_type         text        CHECK (reaction_type IN ('thumbs_up', 'thumbs_down', 'neutral')),
    safety_category       text        CHECK (safety_category IN ('toxic', 'dangerous', 'privacy', 'misleading', 'other')),
    chosen_index          integer,
    rejected_index        integer,
    context               jsonb,  -- {"query", "previous_messages": [{"query", "response"}], "user_profile": {...}}
    "timestamp"           timestamptz NOT NULL,  -- when it was first given
    updated_at            timestamptz NOT NULL,
    revision              integer     NOT NULL DEFAULT 1 CHECK (revision > 0),
    withdrawn             boolean     NOT NULL DEFAULT false,
    policy_release        text        NOT NULL,
    reward_release        text        NOT NULL DEFAULT '',
    arm                   text,
    arm_share             float8,
    selection_probability float8,
    is_training_data      boolean     NOT NULL DEFAULT false,
    learned_weight        float8      NOT NULL DEFAULT 0,  -- what it moved the user's preference vector by
    erased                boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, feedback_id),
    UNIQUE (tenant_id, response_id, user_id, kind)
);

CREATE INDEX feedback_data_by_user ON feedback_data (tenant_id, user_id, feedback_id);
CREATE INDEX feedback_data_by_session ON feedback_data (tenant_id, session_id, feedback_id);
CREATE INDEX feedback_data_by_release ON feedback_data (tenant_id, policy_release, feedback_id);
CREATE INDEX feedback_data_without_context ON feedback_data (response_id) WHERE context IS NULL AND NOT erased;
CREATE INDEX feedback_data_not_trained ON feedback_data ("timestamp") WHERE NOT is_training_data;

-- What each feedback said after each change: append-only, read in the order of transactions by those who follow it.
CREATE TABLE feedback_revisions (
    tenant_id         text        NOT NULL,
    feedback_id       uuid        NOT NULL,
    revision          integer     NOT NULL,
    rating_overall    smallint,
    rating_dimensions jsonb       NOT NULL DEFAULT '{}',
    text_feedback     text        NOT NULL DEFAULT '',
    reaction_type     text,
    safety_category   text,
    chosen_index      integer,
    rejected_index    integer,
    withdrawn         boolean     NOT NULL DEFAULT false,
    recorded_at       timestamptz NOT NULL,
    transaction_id    xid8        NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (tenant_id, feedback_id, revision)
);

CREATE INDEX feedback_revisions_by_transaction ON feedback_revisions (transaction_id);

-- Which requests with an id were done: who repeats one finds what it spoke of by what it says itself. An id belongs to
-- its user. Anonymous users are many, so theirs belongs to the reply; `response_id` is 0 for everybody else.
CREATE TABLE feedback_requests (
    tenant_id   text        NOT NULL,
    user_id     text        NOT NULL,
    response_id uuid        NOT NULL,
    request_id  text        NOT NULL,
    fingerprint bytea       NOT NULL,  -- SHA-256 of what was asked
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id, response_id, request_id)
);

CREATE INDEX feedback_requests_by_age ON feedback_requests (created_at);
