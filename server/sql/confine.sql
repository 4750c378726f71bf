-- Leaves the role {reader} nothing in this database but to read the columns of schema {schema}: no function with side
-- effects, no catalog, no language, no temporary table. Run as superuser, in a transaction, in a database of its own; by
-- columns, so that system columns and whole rows of what is added later stay out of reach.
REVOKE ALL ON SCHEMA public, information_schema FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA pg_catalog, information_schema FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA pg_catalog, information_schema, {schema} FROM PUBLIC;
REVOKE ALL ON LANGUAGE plpgsql FROM PUBLIC;

GRANT USAGE ON SCHEMA {schema} TO {reader};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {reader};
-- The tool asks with it whether row-level security holds.
GRANT EXECUTE ON FUNCTION pg_catalog.row_security_active(text) TO {reader};

DO $$
DECLARE
    plain CONSTANT regtype[] := '{bool, int2, int4, int8, numeric, float4, float8, text, varchar, bpchar, date, timestamp,
        timestamptz, interval, uuid}';
    part record;
BEGIN
    FOR part IN SELECT table_name, string_agg(quote_ident(column_name), ', ') AS columns
        FROM information_schema.columns WHERE table_schema = '{schema}' GROUP BY table_name
    LOOP
        EXECUTE format('GRANT SELECT (%s) ON {schema}.%I TO {reader}', part.columns, part.table_name);
    END LOOP;
    -- What comparing, calculating and casting plain values calls, and the functions that a catalog may allow.
    FOR part IN SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND (
        oid IN (SELECT oprcode FROM pg_operator WHERE oprname !~ '^(!?~\*?|\^)$'
            AND (oprleft = 0 OR oprleft = ANY (plain)) AND oprright = ANY (plain || '{anynonarray}'::regtype[]))
        OR oid IN (SELECT unnest(ARRAY[typinput::oid, typoutput::oid]) FROM pg_type WHERE oid = ANY (plain))
        OR oid IN (SELECT castfunc FROM pg_cast WHERE castsource = ANY (plain) AND casttarget = ANY (plain))
        OR (proname IN ('abs', 'avg', 'btrim', 'ceil', 'count', 'floor', 'length', 'lower', 'max', 'min', 'round', 'sum', 'upper')
            AND proargtypes::regtype[] <@ (plain || '"any"'::regtype)))
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {reader}', part.name);
    END LOOP;
END $$;
