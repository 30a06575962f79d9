-- What threat detection needs of the database.

-- A statement that leaves bot_id out means the bot's own, and one that says NULL, as an ORM does, is told that it is NOT NULL
-- (23502). Both were refused as a row of somebody else's, and could not be told from an attempt at one.
SET LOCAL ROLE botctl_owner;
DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['users', 'conversations', 'messages', 'inbox', 'sends', 'completions', 'outbox'] LOOP
        EXECUTE format('ALTER TABLE %I ALTER bot_id SET DEFAULT botctl_bot_id()', tenant);
    END LOOP;
    FOR tenant IN SELECT polrelid::regclass FROM pg_policy WHERE polname = 'tenant' LOOP
        EXECUTE format('ALTER POLICY tenant ON %s WITH CHECK (bot_id IS NULL OR bot_id = botctl_bot_id())', tenant);
    END LOOP;
END
$$;

-- Canaries: rows of bot -1, which no login can be. Whoever meets one has got round row level security. Each carries a word
-- that is nowhere else, in the form of a token, so that it is known again where it must not be. None are in tables whose
-- rows people count.
DO $$
DECLARE
    word constant text := '999999999999:' || left(translate(encode(sha256(gen_random_uuid()::text::bytea), 'base64'), '+/=', '-_A'), 35);
BEGIN
    INSERT INTO users (bot_id, user_id, first_name, username) VALUES (-1, 1, 'canary', word);
    INSERT INTO completions (bot_id, cause, step, response) VALUES (-1, 'canary', 0, jsonb_build_object('text', word));
END
$$;

-- Fires only when row level security does not hold, and for bots and their readers only: an administrator's statements and
-- migrations concern all rows. The refusal is in the server's log, whatever becomes of the statement.
CREATE FUNCTION botctl_internal.canary_touched() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'a canary row was touched in %', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
REVOKE ALL ON FUNCTION botctl_internal.canary_touched FROM PUBLIC;
CREATE TRIGGER canary BEFORE UPDATE OR DELETE ON users
    FOR EACH ROW WHEN (OLD.bot_id = -1 AND session_user ~ '^bot_[0-9]+')
    EXECUTE FUNCTION botctl_internal.canary_touched();
CREATE TRIGGER canary BEFORE UPDATE OR DELETE ON completions
    FOR EACH ROW WHEN (OLD.bot_id = -1 AND session_user ~ '^bot_[0-9]+')
    EXECUTE FUNCTION botctl_internal.canary_touched();
RESET ROLE;

-- Sessions that bots have now, and where they come from; `control` sees only its own in pg_stat_activity. The last row is
-- of the session that asks, with bot 0.
CREATE FUNCTION botctl_admin.bot_sessions(OUT bot_id bigint, OUT pid integer, OUT address text, OUT port integer,
                                         OUT age double precision)
RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT split_part(usename, '_', 2)::bigint, a.pid, coalesce(host(client_addr), ''), coalesce(client_port, -1),
           extract(epoch FROM clock_timestamp() - backend_start)::double precision
    FROM pg_stat_activity a
    WHERE usename ~ '^bot_[0-9]{1,18}$' AND backend_start IS NOT NULL
      AND shobj_description(usesysid, 'pg_authid') = 'botctl ' || current_database()
    UNION ALL
    SELECT 0, pg_backend_pid(), coalesce(host(inet_client_addr()), ''), coalesce(inet_client_port(), -1), 0;
END;
REVOKE ALL ON FUNCTION botctl_admin.bot_sessions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION botctl_admin.bot_sessions TO botctl_control;

-- As before, and the procedural language: in a block of it a bot can catch a refusal, which then stands in no log. Giving up
-- advisory locks, of which a bot can have none, is given back: pools of asyncpg do it each time a connection is returned.
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
        IF has_language_privilege('bots', 'plpgsql', 'USAGE') THEN
            GRANT USAGE ON LANGUAGE plpgsql TO botctl_owner; -- whose functions later migrations make
            REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
            taken := taken + 1;
        END IF;
        FOR routine IN
            SELECT oid FROM pg_proc
            WHERE pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege('bots', oid, 'EXECUTE')
              AND (proname ~ '^pg_(try_)?advisory_(?!unlock_all$)' OR proname ~ '^lo_'
                   OR proname IN ('loread', 'lowrite', 'pg_logical_emit_message'))
        LOOP
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
            taken := taken + 1;
        END LOOP;
        IF NOT has_function_privilege('bots', 'pg_catalog.pg_advisory_unlock_all()', 'EXECUTE') THEN
            GRANT EXECUTE ON FUNCTION pg_catalog.pg_advisory_unlock_all() TO PUBLIC;
            taken := taken + 1;
        END IF;
    END IF;
    RETURN taken;
END
$$;
SELECT botctl_admin.harden();
