-- Logins of bots, made by the administrator's functions so that `control` needs no right over roles. Each takes a
-- bot_id, never a role name, and touches only roles whose COMMENT names this database.

CREATE FUNCTION botctl_admin.role_of(bot bigint) RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF bot IS NULL OR bot <= 0 OR bot >= 1e18 THEN
        RAISE EXCEPTION 'not the id of a bot: %', bot USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN 'bot_' || bot;
END
$$;

-- Whether the login exists; raises for one that another database, or somebody else, owns.
CREATE FUNCTION botctl_admin.has_login(login text) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_role record;
BEGIN
    SELECT oid, rolsuper, shobj_description(oid, 'pg_authid') AS note INTO found_role
    FROM pg_roles WHERE rolname = login;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF found_role.rolsuper OR found_role.note IS DISTINCT FROM 'botctl ' || current_database() THEN
        RAISE EXCEPTION 'role "%" does not belong to this database', login
            USING ERRCODE = 'insufficient_privilege', DETAIL = coalesce('Its comment: ' || found_role.note, 'It has no comment.'),
                  HINT = 'One PostgreSQL cluster can hold a bot once; remove it from the other fleet first.';
    END IF;
    RETURN true;
END
$$;

CREATE FUNCTION botctl_admin.check_verifier(verifier text) RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF verifier IS NULL OR verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$' THEN
        RAISE EXCEPTION 'expected a SCRAM-SHA-256 verifier, not a password'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'botctl.storage.scram computes one.';
    END IF;
END
$$;

CREATE FUNCTION botctl_admin.make_login(login text, member_of text) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT', login);
    EXECUTE format('COMMENT ON ROLE %I IS %L', login, 'botctl ' || current_database());
    EXECUTE format('GRANT %I TO %I', member_of, login);
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT %I TO %I', login, current_user); -- else it could not end the login's sessions
    END IF;
END
$$;

-- Sets exactly these settings for a login, dropping whatever the login has given itself. True when something changed.
CREATE FUNCTION botctl_admin.settle(login text, wanted text[]) RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    line text;
    elsewhere name;
    login_oid constant oid := (SELECT oid FROM pg_roles WHERE rolname = login);
    changed boolean := false;
BEGIN
    FOR elsewhere IN SELECT datname FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase
                     WHERE setrole = login_oid LOOP
        EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', login, elsewhere);
        changed := true;
    END LOOP;
    IF (SELECT setconfig FROM pg_db_role_setting WHERE setrole = login_oid AND setdatabase = 0) IS DISTINCT FROM wanted THEN
        EXECUTE format('ALTER ROLE %I RESET ALL', login);
        FOREACH line IN ARRAY wanted LOOP
            EXECUTE format('ALTER ROLE %I SET %I = %L', login, split_part(line, '=', 1), split_part(line, '=', 2));
        END LOOP;
        changed := true;
    END IF;
    RETURN changed;
END
$$;

-- Defaults for a well-behaved bot. A bot can change them in its session: what must hold, `control` enforces.
CREATE FUNCTION botctl_admin.bot_settings() RETURNS text[] LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
RETURN ARRAY[
    'statement_timeout=30s', 'lock_timeout=5s', 'idle_in_transaction_session_timeout=15s',
    'plan_cache_mode=force_generic_plan', 'jit=off', 'search_path=public'
];

-- The verifier that each login shall have. A bot can give itself another password; `mend_bots` puts this one back.
CREATE TABLE botctl_admin.logins (bot_id bigint PRIMARY KEY, verifier text NOT NULL);
REVOKE ALL ON botctl_admin.logins FROM PUBLIC;

CREATE FUNCTION botctl_admin.ensure_bot(bot bigint, connection_limit integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    login constant text := botctl_admin.role_of(bot);
    made boolean := false;
BEGIN
    IF connection_limit NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'connection limit must be 1 to 1000, not %', connection_limit;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('botctl_admin'), hashtext(login));
    IF NOT botctl_admin.has_login(login) THEN
        PERFORM botctl_admin.make_login(login, 'bots');
        PERFORM botctl_internal.record_audit(bot, 'login.created', login, NULL,
                                             jsonb_build_object('connection_limit', connection_limit));
        made := true;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles
                   WHERE rolname = login AND rolcanlogin AND rolconnlimit = connection_limit) THEN
        EXECUTE format('ALTER ROLE %I LOGIN CONNECTION LIMIT %s', login, connection_limit);
    END IF;
    PERFORM botctl_admin.settle(login, botctl_admin.bot_settings());
    RETURN made;
END
$$;

CREATE FUNCTION botctl_admin.set_bot_password(bot bigint, verifier text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    login constant text := botctl_admin.role_of(bot);
BEGIN
    PERFORM botctl_admin.check_verifier(verifier);
    PERFORM pg_advisory_xact_lock(hashtext('botctl_admin'), hashtext(login));
    IF NOT botctl_admin.has_login(login) THEN
        RAISE EXCEPTION 'role "%" does not exist', login USING ERRCODE = 'undefined_object';
    END IF;
    EXECUTE format('ALTER ROLE %I PASSWORD %L', login, verifier);
    INSERT INTO botctl_admin.logins AS known (bot_id, verifier) VALUES (bot, set_bot_password.verifier)
    ON CONFLICT ON CONSTRAINT logins_pkey DO UPDATE SET verifier = excluded.verifier;
    PERFORM botctl_internal.record_audit(bot, 'login.password', login, NULL, NULL);
END
$$;

-- Puts back what bots have changed of their own logins: settings and password. Returns those it has mended; sessions
-- they have opened meanwhile keep the wrong settings, so `terminate_bot` them when this is committed. Only a superuser
-- sees passwords; another administrator sets them anew, and only when asked to do it `blindly`.
CREATE FUNCTION botctl_admin.mend_bots(blindly boolean DEFAULT false) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
DECLARE
    superuser constant boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    note constant text := 'botctl ' || current_database();
    wanted constant text[] := botctl_admin.bot_settings();
    strangers bigint[] := '{}';
    one record;
    other_settings boolean;
BEGIN
    IF superuser THEN
        strangers := ARRAY(SELECT known.bot_id FROM botctl_admin.logins known
                           JOIN pg_authid login ON login.rolname = 'bot_' || known.bot_id
                           WHERE login.rolpassword IS DISTINCT FROM known.verifier);
    END IF;
    FOR one IN
        SELECT known.bot_id, known.verifier, login.rolname,
               known.bot_id = ANY (strangers) AS other_password, NOT superuser AND blindly AS blind
        FROM botctl_admin.logins known
        JOIN pg_roles login ON login.rolname = 'bot_' || known.bot_id
        WHERE shobj_description(login.oid, 'pg_authid') = note
          AND (known.bot_id = ANY (strangers) OR (NOT superuser AND blindly)
               OR EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = login.oid AND setdatabase <> 0)
               OR (SELECT setconfig FROM pg_db_role_setting WHERE setrole = login.oid AND setdatabase = 0)
                  IS DISTINCT FROM wanted)
        ORDER BY known.bot_id
    LOOP
        BEGIN
            other_settings := botctl_admin.settle(one.rolname, wanted);
            IF one.other_password OR one.blind THEN
                EXECUTE format('ALTER ROLE %I PASSWORD %L', one.rolname, one.verifier);
            END IF;
            IF one.other_password OR other_settings THEN
                PERFORM botctl_internal.record_audit(one.bot_id, 'login.mended', one.rolname, NULL, jsonb_build_object(
                    'password', one.other_password, 'settings', other_settings));
                RETURN NEXT one.bot_id;
            END IF;
        EXCEPTION WHEN lock_not_available OR internal_error THEN
            RAISE WARNING '% is being altered by somebody else', one.rolname; -- the next round comes soon
        END;
    END LOOP;
END
$$;

-- No new session; those that run are for terminate_bot, after this has been committed.
CREATE FUNCTION botctl_admin.suspend_bot(bot bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    login constant text := botctl_admin.role_of(bot);
BEGIN
    IF NOT botctl_admin.has_login(login) THEN
        RETURN false;
    END IF;
    EXECUTE format('ALTER ROLE %I NOLOGIN', login);
    PERFORM botctl_internal.record_audit(bot, 'login.suspended', login, NULL, NULL);
    RETURN true;
END
$$;

CREATE FUNCTION botctl_admin.terminate_bot(bot bigint) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    login constant text := botctl_admin.role_of(bot);
BEGIN
    PERFORM botctl_admin.has_login(login);
    RETURN (SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE usename = login OR usename ~ ('^' || login || '_ro_[0-9a-f]+$'));
END
$$;

-- Drops a login and what it may own here. The role stays, without LOGIN, when something elsewhere depends on it.
CREATE FUNCTION botctl_admin.drop_login(login text) RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('ALTER ROLE %I NOLOGIN', login);
    PERFORM pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE usename = login;
    EXECUTE format('DROP OWNED BY %I', login);
    EXECUTE format('DROP ROLE %I', login);
    RETURN true;
EXCEPTION WHEN dependent_objects_still_exist THEN
    EXECUTE format('ALTER ROLE %I NOLOGIN', login);
    RETURN false;
END
$$;

CREATE FUNCTION botctl_admin.drop_bot(bot bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    login constant text := botctl_admin.role_of(bot);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('botctl_admin'), hashtext(login));
    IF NOT botctl_admin.has_login(login) THEN
        RETURN false;
    END IF;
    PERFORM botctl_internal.record_audit(bot, 'login.dropped', login, NULL, NULL);
    DELETE FROM botctl_admin.logins WHERE bot_id = bot;
    RETURN botctl_admin.drop_login(login);
END
$$;
