-- What the reward model was given as the context of this reply's candidates: a trainer that made it again from its parts
-- would train on other inputs than are served. NULL: no reward model was asked, or the row is older than the column.
ALTER TABLE conversation_logs ADD COLUMN reward_context text;

-- The contract with the trainer, which reads nothing else of these tables. A change of meaning makes a `_v2` beside it.
-- Both are read in the order of transactions, below pg_snapshot_xmin(pg_current_snapshot()).
CREATE VIEW training_replies_v1 AS
SELECT tenant_id, response_id, user_id, session_id, "timestamp", query, reward_context, context, selected_response,
       reward_score, all_candidates, selection_method, selection_probability, policy_release, reward_release, arm,
       arm_share, degradations, refused, explored, erased, transaction_id
FROM conversation_logs;

CREATE VIEW training_feedback_v1 AS
SELECT f.tenant_id, f.feedback_id, f.response_id, f.user_id, f.session_id, f.kind, f.rating_overall,
       f.rating_dimensions, f.text_feedback, f.reaction_type, f.safety_category, f.chosen_index, f.rejected_index,
       f."timestamp", f.updated_at, f.revision, f.withdrawn, f.policy_release, f.reward_release, f.arm, f.arm_share,
       f.selection_probability, f.is_training_data, f.erased, f.context -> 'user_profile' AS user_profile,
       (SELECT max(r.transaction_id) FROM feedback_revisions r
        WHERE r.tenant_id = f.tenant_id AND r.feedback_id = f.feedback_id) AS transaction_id
FROM feedback_data f;

-- Which feedback was given, edited or taken back when: who has looked at all below a mark asks here for what came since.
CREATE VIEW training_changes_v1 AS
SELECT tenant_id, feedback_id, revision, transaction_id FROM feedback_revisions;

-- Why feedback stays out of training, '' for what is eligible: the trainer takes by it, the server counts by it. Replies are
-- looked up one by one: who wants a few need not read the others. What is not to be read yet is up to who reads.
--   comment_only  says nothing that can be compared          refused     no candidate gave the answer
--   no_reply      its log row is not there yet               shadow      nobody saw it
--   no_context    what the reward model was given is not known
--   degraded      another than the assigned release, or none, chose the answer; or what the rating speaks of is not in its
--                 input. Other degradations leave both as they would have been.
CREATE VIEW training_eligibility_v1 AS
SELECT f.*, r.transaction_id AS reply_transaction_id, CASE
    WHEN f.erased OR r.erased THEN 'erased'
    WHEN f.withdrawn THEN 'withdrawn'
    WHEN f.kind = 'rating' AND f.rating_overall IS NULL AND f.reaction_type IS NULL AND f.rating_dimensions = '{}'
        THEN 'comment_only'
    WHEN r.response_id IS NULL THEN 'no_reply'
    WHEN r.refused THEN 'refused'
    WHEN r.arm = 'shadow' THEN 'shadow'
    WHEN r.degradations @? '$[*].reason ? (@ == "scoring_unavailable" || @ == "scoring_fell_back"
        || @ == "memory_unavailable" || @ == "profile_unavailable")' THEN 'degraded'
    WHEN r.reward_context IS NULL THEN 'no_context'
    ELSE '' END AS exclusion
FROM training_feedback_v1 AS f LEFT JOIN LATERAL (
    SELECT * FROM training_replies_v1 AS one
    WHERE one.tenant_id = f.tenant_id AND one.response_id = f.response_id LIMIT 1
) AS r ON true;

-- What is eligible and no run has used. Rows that are out by themselves cost no look at their replies.
CREATE VIEW training_unused_v1 AS
SELECT tenant_id, feedback_id, transaction_id, reply_transaction_id
FROM training_eligibility_v1
WHERE NOT is_training_data AND NOT withdrawn AND NOT erased AND exclusion = '';

-- What no run has used, without a look at the rest; the older index by time serves nobody.
CREATE INDEX feedback_data_untrained ON feedback_data (tenant_id, feedback_id) WHERE NOT is_training_data;
DROP INDEX feedback_data_not_trained;

-- Immutable files of training data, known by the SHA-256 of their manifest. One that was rewritten because a user was
-- erased stays as a tombstone: `replaced_by` is set and its files are gone. So are those of one that was kept long enough
-- (`pruned_at`); taking the same data again brings it back.
CREATE TABLE training_snapshots (
    snapshot       text        PRIMARY KEY CHECK (snapshot ~ '^[0-9a-f]{64}$'),
    tenant_id      text        NOT NULL,
    path           text        NOT NULL,  -- of its directory, on the trainer's machine
    watermark      xid8        NOT NULL,  -- transactions below it are in
    feedback_count bigint      NOT NULL,
    new_count      bigint      NOT NULL,  -- of them rows that no run had used
    created_at     timestamptz NOT NULL DEFAULT now(),
    taken_at       timestamptz NOT NULL DEFAULT now(),  -- the last time
    replaced_by    text,                  -- set with `erased_at`; '' when nothing was left
    erased_at      timestamptz,
    pruned_at      timestamptz
);

-- Whose data a snapshot holds, by the digest that erasures go by (HMAC-SHA256 of tenant and user). Of one whose files are
-- gone: whom the reports of its runs quote.
CREATE TABLE training_snapshot_users (
    snapshot  text  NOT NULL REFERENCES training_snapshots ON DELETE CASCADE,
    tenant_id text  NOT NULL,
    digest    bytea NOT NULL,
    PRIMARY KEY (snapshot, digest)
);

CREATE INDEX training_snapshot_users_by_user ON training_snapshot_users (tenant_id, digest);

-- A run is known by what goes into it: `key` is the SHA-256 of its data, configuration, code and base model. It is NULL
-- until the data were taken. Who works at a run holds a lease and renews it; one whose lease ran out is taken up again.
CREATE TABLE training_runs (
    tenant_id        text        NOT NULL,
    training_id      uuid        PRIMARY KEY,  -- UUIDv7
    kind             text        NOT NULL CHECK (kind IN ('reward')),
    state            text        NOT NULL DEFAULT 'QUEUED'
                                 CHECK (state IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'DUPLICATE')),
    stage            text        NOT NULL DEFAULT '',
    progress         float8      NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    key              text        CHECK (key ~ '^[0-9a-f]{64}$'),
    duplicate_of     uuid        REFERENCES training_runs,
    snapshot         text        REFERENCES training_snapshots,
    asked            jsonb       NOT NULL DEFAULT '{}',  -- the settings that the request named
    config           jsonb       NOT NULL DEFAULT '{}',  -- all settings, as resolved
    base_model       text        NOT NULL DEFAULT '',
    requested_by     text        NOT NULL,
    request_id       text,
    fingerprint      bytea,                               -- SHA-256 of what was asked
    verdict          text        CHECK (verdict IN ('BETTER', 'NOT_BETTER', 'TOO_LITTLE_DATA')),
    reasons          jsonb       NOT NULL DEFAULT '[]',
    metrics          jsonb       NOT NULL DEFAULT '{}',
    release          text        NOT NULL DEFAULT '',
    release_path     text        NOT NULL DEFAULT '',
    compared_with    text        NOT NULL DEFAULT '',
    report           jsonb,
    report_html      text,
    error            text        NOT NULL DEFAULT '',
    cancel_requested boolean     NOT NULL DEFAULT false,
    not_reproducible boolean     NOT NULL DEFAULT false,
    lease_owner      text        NOT NULL DEFAULT '',
    lease_until      timestamptz,
    attempts         integer     NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    ended_at         timestamptz,
    changed          bigint      NOT NULL DEFAULT 0      -- counts changes, for those who watch
);

CREATE UNIQUE INDEX training_runs_by_key ON training_runs (tenant_id, key)
    WHERE key IS NOT NULL AND state IN ('RUNNING', 'SUCCEEDED');
CREATE UNIQUE INDEX training_runs_by_request ON training_runs (tenant_id, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX training_runs_by_time ON training_runs (tenant_id, training_id DESC);
CREATE INDEX training_runs_to_do ON training_runs (training_id) WHERE state IN ('QUEUED', 'RUNNING');

CREATE TABLE training_points (
    training_id uuid        NOT NULL REFERENCES training_runs ON DELETE CASCADE,
    step        bigint      NOT NULL CHECK (step >= 0),
    values      jsonb       NOT NULL,  -- numbers by name
    written_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (training_id, step)
);

-- What people are asked to judge, and what they said: labels are ratings of a rater `reviewer` in the next snapshot.
CREATE TABLE review_items (
    tenant_id   text        NOT NULL,
    item_id     uuid        PRIMARY KEY,  -- UUIDv7
    training_id uuid        NOT NULL REFERENCES training_runs ON DELETE CASCADE,
    response_id uuid,
    digest      bytea       NOT NULL DEFAULT '',  -- of the reply's user, see training_snapshot_users
    query       text        NOT NULL,
    context     text        NOT NULL DEFAULT '',
    response    text        NOT NULL,
    score       float8      NOT NULL CHECK (score BETWEEN 0 AND 1),
    rating      float8      CHECK (rating BETWEEN 0 AND 1),
    reason      text        NOT NULL CHECK (reason IN ('HIGHEST', 'LOWEST', 'DISPUTED')),
    label       smallint    NOT NULL DEFAULT 0 CHECK (label BETWEEN 0 AND 5),
    labelled_by text        NOT NULL DEFAULT '',
    labelled_at timestamptz,
    note        text        NOT NULL DEFAULT ''
);

CREATE INDEX review_items_by_run ON review_items (training_id);
CREATE INDEX review_items_open ON review_items (tenant_id, item_id) WHERE label = 0;
CREATE INDEX review_items_by_user ON review_items (tenant_id, digest);
