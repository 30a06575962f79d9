-- Group roles and schemas. Roles belong to the whole cluster: another database of botctl may have made them already.

DO $$
DECLARE
    wanted text;
    note constant text := 'botctl group role';
BEGIN
    FOREACH wanted IN ARRAY ARRAY['botctl_owner', 'botctl_control', 'bots', 'bots_ro'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
                EXECUTE format('COMMENT ON ROLE %I IS %L', wanted, note);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database's migration was a moment faster
            END;
        END IF;
        IF NOT EXISTS (
            SELECT FROM pg_roles WHERE rolname = wanted AND shobj_description(oid, 'pg_authid') = note
        ) THEN
            RAISE EXCEPTION 'role "%" exists and was not made by botctl', wanted
                USING HINT = 'Rename that role, or give botctl a PostgreSQL cluster without it.';
        END IF;
    END LOOP;
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT botctl_owner TO %I', current_user);
    END IF;
END
$$;

GRANT USAGE, CREATE ON SCHEMA public TO botctl_owner;
GRANT USAGE ON SCHEMA public TO bots, bots_ro, botctl_control;

-- Partitions and trigger functions; bots have no business in it.
CREATE SCHEMA botctl_internal AUTHORIZATION botctl_owner;
-- What only the administrator may do, done for `control` by functions.
CREATE SCHEMA botctl_admin;
GRANT USAGE ON SCHEMA botctl_internal, botctl_admin TO botctl_control;
