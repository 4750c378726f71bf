-- Experiments on settings serve all tenants of a deployment, as rollouts do: none of these tables has a tenant.

-- An experiment as it stands (server.experiments.types.Experiment). Who writes compares `version` and sets the next one,
-- together with the event of that version. Who gets what follows from these rows alone.
CREATE TABLE experiments (
    experiment_id uuid        PRIMARY KEY,  -- UUIDv7
    name          text        NOT NULL,
    kind          text        NOT NULL CHECK (kind IN ('selection', 'prompt', 'interface')),
    variant       text        NOT NULL,     -- the name of what some users get
    overrides     jsonb       NOT NULL,     -- settings in place of those in force, by name
    plan          jsonb       NOT NULL,
    state         text        NOT NULL CHECK (state IN ('running', 'held', 'stopped')),
    version       bigint      NOT NULL DEFAULT 1 CHECK (version > 0),
    reason        text        NOT NULL DEFAULT '',  -- why it is held or stopped
    started_at    timestamptz NOT NULL,
    started_by    text        NOT NULL,
    stopped_at    timestamptz,
    request_id    text,
    fingerprint   bytea       -- SHA-256 of what was asked
);

CREATE UNIQUE INDEX experiments_one_under_way ON experiments (kind) WHERE state <> 'stopped';
CREATE UNIQUE INDEX experiments_by_request ON experiments (request_id) WHERE request_id IS NOT NULL;

-- The audit: only grows.
CREATE TABLE experiment_events (
    experiment_id uuid        NOT NULL REFERENCES experiments,
    version       bigint      NOT NULL,
    at            timestamptz NOT NULL,
    actor         text        NOT NULL,
    is_person     boolean     NOT NULL,
    trigger       text        NOT NULL,
    reason        text        NOT NULL,
    evidence      jsonb,      -- all that was known (server.rollout.types.Evidence); NULL: nothing was looked at
    PRIMARY KEY (experiment_id, version)
);

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The audit only grows: its rows are never changed or deleted.';
END $$;
CREATE TRIGGER experiment_events_only_grow BEFORE UPDATE OR DELETE ON experiment_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER experiment_events_never_emptied BEFORE TRUNCATE ON experiment_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What the controller saw at its last look at an experiment: for people, not for decisions.
CREATE TABLE experiment_looks (
    experiment_id uuid        PRIMARY KEY REFERENCES experiments,
    version       bigint      NOT NULL,
    at            timestamptz NOT NULL,
    reason        text        NOT NULL,
    evidence      jsonb       NOT NULL
);

-- Calls without a reply count for experiments as well: `rollout_id` is the id of either.
ALTER TABLE rollout_failures DROP CONSTRAINT rollout_failures_rollout_id_fkey;

-- Every server process listens: who gets what changes within a second everywhere.
CREATE TRIGGER experiments_tell AFTER INSERT OR UPDATE ON experiments
    FOR EACH STATEMENT EXECUTE FUNCTION tell_routes();
