-- Alerts: one at a time for a rule and subject. Nothing in them is of a user: no text, no id of a reply.
CREATE TABLE alerts (
    tenant_id       text        NOT NULL,
    alert_id        uuid        NOT NULL,  -- UUIDv7
    rule            text        NOT NULL,
    subject         text        NOT NULL,
    severity        text        NOT NULL CHECK (severity IN ('warning', 'critical')),
    reason          text        NOT NULL,
    value           float8      NOT NULL,
    threshold       float8      NOT NULL,
    sample_count    bigint      NOT NULL,
    link            text        NOT NULL,
    fired_at        timestamptz NOT NULL,
    resolved_at     timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text        NOT NULL DEFAULT '',
    note            text        NOT NULL DEFAULT '',
    version         bigint      NOT NULL DEFAULT 1,
    changed_at      timestamptz NOT NULL DEFAULT now(),  -- when the transaction of `version` began
    PRIMARY KEY (tenant_id, alert_id)
);

CREATE UNIQUE INDEX alerts_that_fire ON alerts (tenant_id, rule, subject) WHERE resolved_at IS NULL;
CREATE INDEX alerts_by_change ON alerts (tenant_id, changed_at);
CREATE INDEX alerts_resolved ON alerts (resolved_at) WHERE resolved_at IS NOT NULL;

-- Which safety reports an alert was made of, so that each counts once. A report that was withdrawn leaves.
CREATE TABLE alert_reports (
    tenant_id   text NOT NULL,
    feedback_id uuid NOT NULL,
    alert_id    uuid NOT NULL,
    PRIMARY KEY (tenant_id, feedback_id),
    FOREIGN KEY (tenant_id, alert_id) REFERENCES alerts ON DELETE CASCADE
);

CREATE INDEX alert_reports_by_alert ON alert_reports (tenant_id, alert_id);

-- Which safety reports were given, changed or withdrawn since alerts were made of them: written with the change itself,
-- so that none is missed however late it commits, and taken away by whoever makes alerts of it. One row for each change:
-- a row that waits already may be taken by somebody who does not see this change yet.
CREATE TABLE alert_report_changes (
    change_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   text NOT NULL,
    feedback_id uuid NOT NULL
);

CREATE FUNCTION note_safety_report() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO alert_report_changes (tenant_id, feedback_id) VALUES (NEW.tenant_id, NEW.feedback_id);
    RETURN NULL;
END $$;

CREATE TRIGGER feedback_data_note_new_report AFTER INSERT ON feedback_data
    FOR EACH ROW WHEN (NEW.kind = 'safety_report') EXECUTE FUNCTION note_safety_report();
CREATE TRIGGER feedback_data_note_changed_report AFTER UPDATE ON feedback_data FOR EACH ROW
    WHEN (NEW.kind = 'safety_report'
        AND (OLD.withdrawn, OLD.safety_category) IS DISTINCT FROM (NEW.withdrawn, NEW.safety_category))
    EXECUTE FUNCTION note_safety_report();

-- What is to be sent to webhooks, and what was. A delivery is written in the transaction that changes its alert.
CREATE TABLE alert_deliveries (
    delivery_id   uuid        PRIMARY KEY,  -- UUIDv7; receivers tell repeated deliveries by it
    tenant_id     text        NOT NULL,
    alert_id      uuid        NOT NULL,
    url           text        NOT NULL,
    body          text        NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    attempts      integer     NOT NULL DEFAULT 0,
    next_attempt  timestamptz NOT NULL DEFAULT now(),
    delivered_at  timestamptz,
    given_up_at   timestamptz,
    last_error    text        NOT NULL DEFAULT '',
    FOREIGN KEY (tenant_id, alert_id) REFERENCES alerts ON DELETE CASCADE
);

CREATE INDEX alert_deliveries_waiting ON alert_deliveries (url, next_attempt)
    WHERE delivered_at IS NULL AND given_up_at IS NULL;
CREATE INDEX alert_deliveries_done ON alert_deliveries (coalesce(delivered_at, given_up_at))
    WHERE coalesce(delivered_at, given_up_at) IS NOT NULL;
CREATE INDEX alert_deliveries_by_alert ON alert_deliveries (alert_id, url);
