-- Of the months that are there: each is read once, to find that nothing of it is to be indexed. Replies are written to the
-- youngest, which come last, so that they wait for no more than the reading of these.
DO $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT oid::regclass AS name, relname || '_assignments' AS index FROM pg_class
        JOIN pg_inherits ON inhrelid = oid
        WHERE inhparent = 'conversation_logs'::regclass AND NOT EXISTS (
            SELECT FROM pg_inherits AS known JOIN pg_index ON indexrelid = known.inhrelid
            WHERE known.inhparent = 'conversation_logs_assignments'::regclass AND indrelid = oid
        )
        ORDER BY relname = 'conversation_logs_default', relname
    LOOP
        EXECUTE format(
            'CREATE INDEX %I ON %s USING gin (assignments jsonb_path_ops) WHERE assignments <> %L',
            part.index, part.name, '[]'
        );
        EXECUTE format('ALTER INDEX conversation_logs_assignments ATTACH PARTITION %I', part.index);
    END LOOP;
END $$;
