-- Releases serve all tenants of a deployment, and so do rollouts: none of these tables has a tenant, except where users'
-- replies are spoken of.

-- Every release that was published: its files are in Triton's repository, in a directory of this name. A row never changes
-- but for what is learned of it later: its threshold, and that it serves nobody any more.
CREATE TABLE releases (
    release      text        PRIMARY KEY,
    kind         text        NOT NULL CHECK (kind IN ('reward', 'policy')),
    manifest     jsonb       NOT NULL,               -- release.json, as it was published
    digest       bytea       NOT NULL,               -- SHA-256 of release.json: another release of the same id is refused
    training_id  uuid,                               -- the run that made it, if one of ours did
    published_at timestamptz NOT NULL DEFAULT now(),
    published_by text        NOT NULL,
    threshold    float8      CHECK (threshold BETWEEN 0 AND 1),  -- of a reward: in place of its manifest's own
    continuity   jsonb,                              -- how that was found: rollout.continuity.Continuity
    retired_at   timestamptz                         -- since when nobody is to be served by it; NULL: may be rolled out
);

CREATE INDEX releases_by_time ON releases (published_at DESC, release DESC);

-- What training made and could not be published, and why; tried again only when somebody asks.
CREATE TABLE refused_releases (
    training_id uuid        PRIMARY KEY,
    release     text        NOT NULL,
    reason      text        NOT NULL,
    at          timestamptz NOT NULL DEFAULT now()
);

-- Who answers when no rollout says otherwise.
CREATE TABLE champions (
    kind    text        PRIMARY KEY CHECK (kind IN ('reward', 'policy')),
    release text        NOT NULL REFERENCES releases,
    since   timestamptz NOT NULL DEFAULT now()
);

-- A rollout as it stands (server.rollout.types.Rollout). Who writes compares `version` and sets the next one, together with
-- the event of that version. What is loaded and routed follows from these rows and the time.
CREATE TABLE rollouts (
    rollout_id    uuid        PRIMARY KEY,  -- UUIDv7
    kind          text        NOT NULL CHECK (kind IN ('reward', 'policy')),
    challenger    text        NOT NULL REFERENCES releases,
    champion      text        NOT NULL REFERENCES releases,
    plan          jsonb       NOT NULL,
    state         text        NOT NULL CHECK (state IN ('draft', 'published', 'loaded', 'shadow', 'canary', 'verified',
                                                        'paused', 'rolling_back', 'rolled_back', 'failed')),
    stage         integer     NOT NULL DEFAULT 0 CHECK (stage >= 0),
    version       bigint      NOT NULL DEFAULT 1 CHECK (version > 0),
    since         timestamptz NOT NULL,
    served        float8      NOT NULL DEFAULT 0,
    lost          float8      NOT NULL DEFAULT 0,
    resumes_to    text,
    pauses        jsonb       NOT NULL DEFAULT '[]',
    drain_seconds float8      NOT NULL,
    undoes        uuid        REFERENCES rollouts,
    created_at    timestamptz NOT NULL,
    created_by    text        NOT NULL,
    request_id    text,
    fingerprint   bytea       -- SHA-256 of what was asked
);

CREATE UNIQUE INDEX rollouts_one_under_way ON rollouts (kind)
    WHERE state NOT IN ('draft', 'verified', 'rolled_back', 'failed');
CREATE UNIQUE INDEX rollouts_by_request ON rollouts (request_id) WHERE request_id IS NOT NULL;

-- The audit: only grows.
CREATE TABLE rollout_events (
    rollout_id uuid        NOT NULL REFERENCES rollouts,
    version    bigint      NOT NULL,
    at         timestamptz NOT NULL,
    actor      text        NOT NULL,
    is_person  boolean     NOT NULL,
    trigger    text        NOT NULL,
    before     jsonb,                 -- state, stage, causes; NULL for the first
    after      jsonb       NOT NULL,
    reason     text        NOT NULL,
    evidence   jsonb,                 -- all that was known (server.rollout.types.Evidence); NULL: nothing was looked at
    PRIMARY KEY (rollout_id, version)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit of rollouts only grows: its rows are never changed or deleted.';
END $$;
CREATE TRIGGER rollout_events_only_grow BEFORE UPDATE OR DELETE ON rollout_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER rollout_events_never_emptied BEFORE TRUNCATE ON rollout_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What the controller saw at its last look at a rollout that goes on, and why it waits: for people, not for decisions.
CREATE TABLE rollout_looks (
    rollout_id uuid        PRIMARY KEY REFERENCES rollouts,
    version    bigint      NOT NULL,
    at         timestamptz NOT NULL,
    reason     text        NOT NULL,
    evidence   jsonb       NOT NULL
);

-- What each Triton replica has of what it should have; written by the leader.
CREATE TABLE replica_models (
    replica    text        NOT NULL,  -- its address
    release    text        NOT NULL,
    state      text        NOT NULL CHECK (state IN ('loading', 'ready', 'refused', 'unloading')),
    refusal    text        NOT NULL DEFAULT '',  -- why it won't have it, a sentence
    since      timestamptz NOT NULL,
    checked_at timestamptz NOT NULL,
    PRIMARY KEY (replica, release)
);

-- Which experiments and rollouts a reply was part of, an object each (server.rollout.types.Assignment); [] outside of them.
-- `arm` names what all of them gave together, `arm_share` is the probability of that.
ALTER TABLE conversation_logs ADD COLUMN assignments jsonb NOT NULL DEFAULT '[]';

-- Calls of a rollout that gave no reply at all, so that no log row tells of them. `digest` is the user's (or session's), as
-- erasures go by it.
CREATE TABLE rollout_failures (
    rollout_id uuid        NOT NULL REFERENCES rollouts,
    at         timestamptz NOT NULL DEFAULT now(),
    stage      integer     NOT NULL,
    challenger boolean     NOT NULL,
    sticky     boolean     NOT NULL,
    tenant_id  text        NOT NULL,
    digest     bytea       NOT NULL,
    reason     text        NOT NULL  -- of the error that the caller got
);

CREATE INDEX rollout_failures_by_rollout ON rollout_failures (rollout_id, at);
CREATE INDEX rollout_failures_by_user ON rollout_failures (tenant_id, digest);

-- What a challenger in shadow gave, which nobody saw: figures only, no text.
CREATE TABLE shadow_answers (
    rollout_id      uuid        NOT NULL REFERENCES rollouts,
    response_id     uuid        NOT NULL,   -- the reply that was given
    tenant_id       text        NOT NULL,
    at              timestamptz NOT NULL DEFAULT now(),
    scores          float8[]    NOT NULL,   -- reward: the challenger's of the reply's candidates; policy: the champion
                                            -- reward's of the challenger's candidates
    champion_scores float8[]    NOT NULL,   -- reward: the champion's of the same; policy: of the reply's candidates
    same_choice     boolean,                -- reward: whether the best one is the same
    seconds         float8      NOT NULL,
    champion_seconds float8     NOT NULL,
    error           text        NOT NULL DEFAULT '',
    PRIMARY KEY (rollout_id, response_id)
);

-- What people made of safety reports; without a row one waits.
CREATE TABLE safety_decisions (
    tenant_id   text        NOT NULL,
    feedback_id uuid        NOT NULL,
    confirmed   boolean     NOT NULL,
    decided_by  text        NOT NULL,
    decided_at  timestamptz NOT NULL DEFAULT now(),
    note        text        NOT NULL DEFAULT '',
    releases    text[]      NOT NULL DEFAULT '{}',  -- the challengers that gave the reply
    PRIMARY KEY (tenant_id, feedback_id)
);

-- What people found unsafe once is not rolled out again: asked each second.
CREATE INDEX safety_decisions_condemned ON safety_decisions USING gin (releases) WHERE confirmed;

-- Every server process listens: who answers changes within a second everywhere.
CREATE FUNCTION tell_routes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY ratchet_routes;
    RETURN NULL;
END $$;
CREATE TRIGGER champions_tell AFTER INSERT OR UPDATE OR DELETE ON champions
    FOR EACH STATEMENT EXECUTE FUNCTION tell_routes();
CREATE TRIGGER rollouts_tell AFTER INSERT OR UPDATE ON rollouts
    FOR EACH STATEMENT EXECUTE FUNCTION tell_routes();
CREATE TRIGGER releases_tell AFTER INSERT OR UPDATE ON releases
    FOR EACH STATEMENT EXECUTE FUNCTION tell_routes();

-- An assigned release whose work another one did is out as well: the reply is not its own. (Otherwise as in 0010.)
CREATE OR REPLACE VIEW training_eligibility_v1 AS
SELECT f.*, r.transaction_id AS reply_transaction_id, CASE
    WHEN f.erased OR r.erased THEN 'erased'
    WHEN f.withdrawn THEN 'withdrawn'
    WHEN f.kind = 'rating' AND f.rating_overall IS NULL AND f.reaction_type IS NULL AND f.rating_dimensions = '{}'
        THEN 'comment_only'
    WHEN r.response_id IS NULL THEN 'no_reply'
    WHEN r.refused THEN 'refused'
    WHEN r.arm = 'shadow' THEN 'shadow'
    WHEN r.degradations @? '$[*].reason ? (@ == "scoring_unavailable" || @ == "scoring_fell_back"
        || @ == "policy_fell_back" || @ == "memory_unavailable" || @ == "profile_unavailable")' THEN 'degraded'
    WHEN r.reward_context IS NULL THEN 'no_context'
    ELSE '' END AS exclusion
FROM training_feedback_v1 AS f LEFT JOIN LATERAL (
    SELECT * FROM training_replies_v1 AS one
    WHERE one.tenant_id = f.tenant_id AND one.response_id = f.response_id LIMIT 1
) AS r ON true;
