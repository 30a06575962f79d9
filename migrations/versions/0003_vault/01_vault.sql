-- Data keys of bots, wrapped by the master key that `control` has, and secrets sealed with them. No bot reads either:
-- `control` hands each its own keys down the pipe.

SET LOCAL ROLE botctl_owner;

CREATE TABLE bot_keys (
    bot_id         bigint      NOT NULL,
    key_id         integer     NOT NULL CHECK (key_id > 0),
    master_version integer     NOT NULL,
    master_check   text        NOT NULL,
    wrapped        bytea       NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    retired_at     timestamptz,
    PRIMARY KEY (bot_id, key_id)
) PARTITION BY HASH (bot_id);
COMMENT ON TABLE bot_keys IS 'Data keys; the one with the highest key_id of a bot seals, the others only open.';
COMMENT ON COLUMN bot_keys.master_version IS 'The version of the master key that wrapped it.';
COMMENT ON COLUMN bot_keys.master_check IS 'Tells whether a master key is that one; nothing of the key follows from it.';

CREATE TABLE bot_secrets (
    bot_id bigint      NOT NULL,
    name   text        NOT NULL,
    key_id integer     NOT NULL,
    sealed bytea       NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, name),
    FOREIGN KEY (bot_id, key_id) REFERENCES bot_keys (bot_id, key_id)
) PARTITION BY HASH (bot_id);
COMMENT ON TABLE bot_secrets IS 'Secrets given at runtime, such as a new token, each sealed with a data key of its bot.';

-- From now on several rows of a bot may be changed by one statement: a trigger's argument names the rest of the key.
CREATE OR REPLACE FUNCTION botctl_internal.audit_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO public.audit_log (bot_id, actor, action, entity, after)
        SELECT bot_id, session_user, 'insert', TG_TABLE_NAME, botctl_internal.masked(to_jsonb(new_rows))
        FROM new_rows;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO public.audit_log (bot_id, actor, action, entity, before, after)
        SELECT bot_id, session_user, 'update', TG_TABLE_NAME, botctl_internal.masked(to_jsonb(old_rows)),
               botctl_internal.masked(to_jsonb(new_rows))
        FROM old_rows JOIN new_rows USING (bot_id)
        WHERE old_rows IS DISTINCT FROM new_rows
          AND to_jsonb(old_rows) -> TG_ARGV[0] IS NOT DISTINCT FROM to_jsonb(new_rows) -> TG_ARGV[0];
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO public.audit_log (bot_id, actor, action, entity, before)
        SELECT bot_id, session_user, 'delete', TG_TABLE_NAME, botctl_internal.masked(to_jsonb(old_rows))
        FROM old_rows;
    ELSE
        INSERT INTO public.audit_log (bot_id, actor, action, entity)
        VALUES (0, session_user, 'truncate', TG_TABLE_NAME);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION botctl_internal.masked(line jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN line || (
    SELECT coalesce(jsonb_object_agg(key, '***'), '{}') FROM jsonb_object_keys(line) key
    WHERE key IN ('redis_password_sha256', 'master_check', 'wrapped', 'sealed')
);

DO $$
DECLARE
    tenant text;
    rest text;
BEGIN
    FOR tenant, rest IN VALUES ('bot_keys', 'key_id'), ('bot_secrets', 'name') LOOP
        FOR remainder IN 0..15 LOOP
            EXECUTE format(
                'CREATE TABLE botctl_internal.%I PARTITION OF public.%I FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                tenant || '_' || to_char(remainder, 'FM00'), tenant, remainder
            );
        END LOOP;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY tenant ON %I TO bots, bots_ro '
                       'USING (bot_id = botctl_bot_id()) WITH CHECK (bot_id = botctl_bot_id())', tenant);
        EXECUTE format('CREATE POLICY control ON %I TO botctl_control USING (true) WITH CHECK (true)', tenant);
        EXECUTE format('CREATE POLICY owner ON %I TO botctl_owner USING (true) WITH CHECK (true)', tenant);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', tenant);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO botctl_control', tenant);
        EXECUTE format('CREATE TRIGGER audit_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS new_rows '
                       'FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change(%L)', tenant, rest);
        EXECUTE format('CREATE TRIGGER audit_update AFTER UPDATE ON %I '
                       'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
                       'FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change(%L)', tenant, rest);
        EXECUTE format('CREATE TRIGGER audit_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS old_rows '
                       'FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change(%L)', tenant, rest);
        EXECUTE format('CREATE TRIGGER audit_truncate AFTER TRUNCATE ON %I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change(%L)', tenant, rest);
    END LOOP;
END
$$;

GRANT UPDATE (master_version, master_check, wrapped, retired_at) ON bot_keys TO botctl_control;
GRANT UPDATE (key_id, sealed, set_at) ON bot_secrets TO botctl_control;

RESET ROLE;
