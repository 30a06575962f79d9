-- What attacks with a bot's own login have found.

-- A member of a group may say DROP OWNED BY that group, which takes the group out of every policy: one bot could shut all
-- others out. PUBLIC can't be dropped from anything. Everybody but bots and readers has no botctl_bot_id(), and so no row.
SET LOCAL ROLE botctl_owner;
DO $$
DECLARE
    tenant regclass;
BEGIN
    FOR tenant IN SELECT polrelid::regclass FROM pg_policy WHERE polname = 'tenant' LOOP
        EXECUTE format('ALTER POLICY tenant ON %s TO PUBLIC', tenant);
    END LOOP;
END
$$;

-- EXPLAIN estimates by statistics over all bots' rows, before row security: by halving ranges, ids and names of another's
-- users could be read off it. So there are statistics only of columns whose values are our own numbers and states, which
-- plans need. The audit log's months are made later; it holds no data of people that EXPLAIN could compare.
DO $$
DECLARE
    tenant regclass;
    col name;
BEGIN
    FOR tenant, col IN
        SELECT c.oid::regclass, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'p' AND c.relname <> 'audit_log'
          AND a.attnum > 0 AND NOT a.attisdropped
          AND a.attname NOT IN ('bot_id', 'conversation_id', 'message_id', 'inbox_id', 'seq', 'run_id', 'state')
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', tenant, col);
    END LOOP;
END
$$;
RESET ROLE;

DO $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN -- nobody else can take away what has been gathered
        DELETE FROM pg_statistic USING pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE starelid = a.attrelid AND staattnum = a.attnum AND a.attstattarget = 0
          AND c.relnamespace IN ('public'::regnamespace, 'botctl_internal'::regnamespace);
    END IF;
END
$$;

-- Takes from PUBLIC what every login has by default and no bot needs. Repeated at every start: a database's own rights
-- are not copied with it. Functions of the server only a superuser can take away: advisory locks, large objects, and
-- messages to the write-ahead log, of any size and without a row. Returns how many were taken.
CREATE OR REPLACE FUNCTION botctl_admin.harden() RETURNS integer LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    routine regprocedure;
    taken integer := 0;
BEGIN
    IF has_database_privilege('bots', current_database(), 'TEMPORARY, CREATE') THEN
        EXECUTE format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', current_database());
        taken := taken + 1;
    END IF;
    IF has_schema_privilege('bots', 'public', 'CREATE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        taken := taken + 1;
    END IF;
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        FOR routine IN
            SELECT oid FROM pg_proc
            WHERE pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege('bots', oid, 'EXECUTE')
              AND (proname ~ '^pg_(try_)?advisory_' OR proname ~ '^lo_'
                   OR proname IN ('loread', 'lowrite', 'pg_logical_emit_message'))
        LOOP
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
            taken := taken + 1;
        END LOOP;
    END IF;
    RETURN taken;
END
$$;
SELECT botctl_admin.harden();
