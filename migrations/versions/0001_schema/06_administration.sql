-- The rest of what `control` may ask the administrator for: watchdog, short-lived readers, its own login, hardening.

CREATE FUNCTION botctl_admin.end_long_transactions(longest interval) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF longest < interval '1 second' THEN
        RAISE EXCEPTION 'the limit must be a second at least, not %', longest;
    END IF;
    RETURN (
        SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE xact_start < clock_timestamp() - longest -- in whatever database of the cluster
          AND usesysid IN (SELECT member FROM pg_auth_members
                           WHERE roleid IN ('bots'::regrole::oid, 'bots_ro'::regrole::oid)
                             AND shobj_description(member, 'pg_authid') = 'botctl ' || current_database())
    );
END
$$;

-- A login that reads what the bot reads, for psql; it cannot log in after `valid_until`.
CREATE FUNCTION botctl_admin.open_reader(bot bigint, verifier text, valid_until timestamptz) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    login constant text := botctl_admin.role_of(bot) || '_ro_' || left(replace(gen_random_uuid()::text, '-', ''), 12);
BEGIN
    PERFORM botctl_admin.check_verifier(verifier);
    IF valid_until IS NULL OR valid_until > now() + interval '1 day' THEN
        RAISE EXCEPTION 'a reader is valid for a day at most';
    END IF;
    PERFORM botctl_admin.make_login(login, 'bots_ro');
    EXECUTE format('ALTER ROLE %I PASSWORD %L VALID UNTIL %L CONNECTION LIMIT 4', login, verifier, valid_until);
    PERFORM botctl_admin.settle(login, ARRAY[
        'default_transaction_read_only=on', 'statement_timeout=60s', 'lock_timeout=5s',
        'idle_in_transaction_session_timeout=60s', 'jit=off', 'search_path=public'
    ]);
    PERFORM botctl_internal.record_audit(bot, 'reader.opened', login, NULL,
                                         jsonb_build_object('valid_until', valid_until));
    RETURN login;
END
$$;

-- Drops this database's readers, by default those whose time is over, together with their sessions.
CREATE FUNCTION botctl_admin.close_readers(all_of_them boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reader record;
    closed integer := 0;
BEGIN
    FOR reader IN
        SELECT rolname, split_part(rolname, '_', 2)::bigint AS bot FROM pg_roles
        WHERE rolname ~ '^bot_[0-9]{1,18}_ro_[0-9a-f]+$'
          AND shobj_description(oid, 'pg_authid') = 'botctl ' || current_database()
          AND (all_of_them OR rolvaliduntil < now())
    LOOP
        IF botctl_admin.drop_login(reader.rolname) THEN
            PERFORM botctl_internal.record_audit(reader.bot, 'reader.closed', reader.rolname, NULL, NULL);
            closed := closed + 1;
        END IF;
    END LOOP;
    RETURN closed;
END
$$;

-- The login of `control`: one a database, because roles belong to the whole cluster and its password is new at every
-- start. For the administrator only.
CREATE FUNCTION botctl_admin.ensure_control(verifier text) RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    login constant text := 'botctl_control_' || left(md5(current_database()), 8);
BEGIN
    PERFORM botctl_admin.check_verifier(verifier);
    PERFORM pg_advisory_xact_lock(hashtext('botctl_admin'), hashtext(login));
    IF NOT botctl_admin.has_login(login) THEN
        PERFORM botctl_admin.make_login(login, 'botctl_control');
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', login, verifier);
    PERFORM botctl_admin.settle(login, ARRAY[
        'statement_timeout=60s', 'lock_timeout=10s', 'idle_in_transaction_session_timeout=60s', 'jit=off',
        'search_path=public'
    ]);
    PERFORM botctl_internal.record_audit(0, 'login.password', login, NULL, NULL);
    RETURN login;
END
$$;

-- Takes from PUBLIC what every login has by default and no bot needs. Repeated at every start: a database's own rights
-- are not copied with it. Advisory locks and large objects only a superuser can take away. Returns how many were taken.
CREATE FUNCTION botctl_admin.harden() RETURNS integer LANGUAGE plpgsql VOLATILE
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
              AND (proname ~ '^pg_(try_)?advisory_' OR proname ~ '^lo_' OR proname IN ('loread', 'lowrite'))
        LOOP
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
            taken := taken + 1;
        END LOOP;
    END IF;
    RETURN taken;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA botctl_admin FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    botctl_admin.ensure_bot, botctl_admin.set_bot_password, botctl_admin.suspend_bot, botctl_admin.terminate_bot,
    botctl_admin.drop_bot, botctl_admin.mend_bots, botctl_admin.end_long_transactions, botctl_admin.open_reader, botctl_admin.close_readers
TO botctl_control;
GRANT USAGE ON SCHEMA botctl_internal TO CURRENT_USER;
GRANT EXECUTE ON FUNCTION botctl_internal.record_audit TO CURRENT_USER;
SELECT botctl_admin.harden();
GRANT SELECT ON alembic_version TO botctl_control;
