-- Of the months to come. Those that are there follow in a transaction of its own: what holds a month must not ask for the
-- whole log, which those hold who wait for the month.
CREATE INDEX conversation_logs_assignments ON ONLY conversation_logs USING gin (assignments jsonb_path_ops)
    WHERE assignments <> '[]';
