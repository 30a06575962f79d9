-- Programs outside the fleet that read a log, and the forgetting of what is done. No bot sees a grant.

SET LOCAL ROLE botctl_owner;

CREATE TABLE bus_grants (
    bot_id          bigint      NOT NULL DEFAULT 0 CHECK (bot_id = 0),
    name            text        NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,31}$'),
    logs            text[]      NOT NULL CHECK (logs <@ ARRAY['bot', 'system', 'user'] AND cardinality(logs) > 0),
    group_name      text        NOT NULL CHECK (group_name ~ '^[a-z0-9][a-z0-9_-]{0,31}$'),
    group_key       text        NOT NULL CHECK (group_key ~ '^[0-9a-f]{32}$'),
    password_sha256 text        NOT NULL CHECK (password_sha256 ~ '^[0-9a-f]{64}$'),
    start_id        text        NOT NULL,
    granted_at      timestamptz NOT NULL DEFAULT now(),
    revoked_at      timestamptz,
    PRIMARY KEY (bot_id, name)
) PARTITION BY HASH (bot_id);
COMMENT ON TABLE bus_grants IS 'Who outside the fleet may read which logs; of the fleet, so bot_id is 0.';
COMMENT ON COLUMN bus_grants.group_key IS
    'Second half of the consumer group''s name. Redis can''t forbid a reader to name another one''s group: it can''t be guessed.';
COMMENT ON COLUMN bus_grants.start_id IS 'Where the group begins, also when it has to be made again.';

DO $$
DECLARE
    col name;
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE botctl_internal.%I PARTITION OF public.bus_grants FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
            'bus_grants_' || to_char(remainder, 'FM00'), remainder
        );
    END LOOP;
    FOR col IN SELECT attname FROM pg_attribute
               WHERE attrelid = 'bus_grants'::regclass AND attnum > 0 AND attname <> 'bot_id' LOOP
        EXECUTE format('ALTER TABLE bus_grants ALTER COLUMN %I SET STATISTICS 0', col);
    END LOOP;
END
$$;

ALTER TABLE bus_grants ENABLE ROW LEVEL SECURITY;
ALTER TABLE bus_grants FORCE ROW LEVEL SECURITY;
CREATE POLICY control ON bus_grants TO botctl_control USING (true) WITH CHECK (true);
CREATE POLICY owner ON bus_grants TO botctl_owner USING (true) WITH CHECK (true);
REVOKE ALL ON bus_grants FROM PUBLIC;
GRANT SELECT, INSERT ON bus_grants TO botctl_control;
GRANT UPDATE (logs, group_name, group_key, password_sha256, start_id, granted_at, revoked_at)
    ON bus_grants TO botctl_control;

CREATE TRIGGER audit_insert AFTER INSERT ON bus_grants REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change('name');
CREATE TRIGGER audit_update AFTER UPDATE ON bus_grants REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change('name');
CREATE TRIGGER audit_delete AFTER DELETE ON bus_grants REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change('name');
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON bus_grants
    FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change('name');
ALTER TABLE bus_grants ENABLE ALWAYS TRIGGER audit_insert;
ALTER TABLE bus_grants ENABLE ALWAYS TRIGGER audit_update;
ALTER TABLE bus_grants ENABLE ALWAYS TRIGGER audit_delete;
ALTER TABLE bus_grants ENABLE ALWAYS TRIGGER audit_truncate;

RESET ROLE;
