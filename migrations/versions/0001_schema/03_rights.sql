-- Who sees and does what. Policies name group roles and compare bot_id with the login itself, which no SQL can change.

SET LOCAL ROLE botctl_owner;

-- Logins are bot_<bot_id> and bot_<bot_id>_ro_<hex>. It runs for every row a bot writes: comparing names (always bytewise)
-- costs 0.2 µs, a regular expression 5 µs.
CREATE FUNCTION botctl_bot_id() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN session_user >= 'bot_0' AND session_user < 'bot_:' THEN split_part(session_user::text, '_', 2)::bigint END;
COMMENT ON FUNCTION botctl_bot_id IS 'The bot whose login this session has; null for everybody else.';

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['bots', 'bot_credentials', 'users', 'conversations', 'messages', 'inbox', 'sends',
                                  'completions', 'outbox', 'bot_runs', 'audit_log'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        -- FORCE on the parents only: forced partitions make pg_dump fail, and nobody has a right on a partition.
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY tenant ON %I TO bots, bots_ro '
                       'USING (bot_id = botctl_bot_id()) WITH CHECK (bot_id = botctl_bot_id())', tenant);
        EXECUTE format('CREATE POLICY control ON %I TO botctl_control USING (true) WITH CHECK (true)', tenant);
        EXECUTE format('CREATE POLICY owner ON %I TO botctl_owner USING (true) WITH CHECK (true)', tenant);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', tenant);
        EXECUTE format('GRANT SELECT ON %I TO botctl_control', tenant);
        IF tenant <> 'bot_credentials' THEN
            EXECUTE format('GRANT SELECT ON %I TO bots, bots_ro', tenant);
        END IF;
    END LOOP;
END
$$;

-- A bot. UPDATE by column only: a right on the whole table would allow LOCK TABLE against everybody.
GRANT INSERT ON users, conversations, messages, inbox, sends, completions, outbox TO bots;
GRANT UPDATE (first_name, last_name, username, language_code, last_seen_at) ON users TO bots;
GRANT UPDATE (closed_at) ON conversations TO bots;
GRANT UPDATE (telegram_message_id) ON messages TO bots;
GRANT UPDATE (state, attempts, next_attempt_at, done_at, last_error) ON inbox TO bots;
GRANT UPDATE (state, result, error, attempts, uncertain, sent_at) ON sends TO bots;
GRANT UPDATE (relayed_at) ON outbox TO bots;

-- `control`: the registry, the runs, and the fleet's own events.
GRANT INSERT ON bots, bot_credentials, bot_runs, outbox TO botctl_control;
GRANT UPDATE (name, managed_by, enabled, token_fingerprint, config, updated_at, removed_at) ON bots TO botctl_control;
GRANT UPDATE (generation, redis_password_sha256, rotated_at) ON bot_credentials TO botctl_control;
GRANT UPDATE (pid, ready_at, ended_at, failure, exit, detail, lifecycle_seq) ON bot_runs TO botctl_control;
GRANT UPDATE (relayed_at) ON outbox TO botctl_control;

CREATE FUNCTION botctl_end_my_others() RETURNS integer LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000))
    FROM pg_stat_activity WHERE usename = session_user AND pid <> pg_backend_pid()
);
COMMENT ON FUNCTION botctl_end_my_others IS
    'Ends the other sessions of this login and waits until they are gone, so that none commits behind its successor.';

RESET ROLE;
