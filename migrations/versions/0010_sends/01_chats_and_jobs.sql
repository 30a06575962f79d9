-- What sends need to know of chats, and jobs that are due one day. Both are a bot's own.

SET LOCAL ROLE botctl_owner;

CREATE TABLE chat_states (
    bot_id      bigint      NOT NULL DEFAULT botctl_bot_id(),
    chat_id     bigint      NOT NULL,
    unreachable text        CHECK (unreachable IN ('blocked', 'deactivated', 'kicked', 'not_started', 'gone')),
    since       timestamptz NOT NULL DEFAULT now(),
    moved_to    bigint,
    PRIMARY KEY (bot_id, chat_id)
) PARTITION BY HASH (bot_id);
CREATE INDEX chat_states_known ON chat_states (bot_id, since) WHERE unreachable IS NOT NULL OR moved_to IS NOT NULL;
COMMENT ON TABLE chat_states IS 'Chats that can''t be reached, and groups that have become supergroups.';
COMMENT ON COLUMN chat_states.unreachable IS 'Why Telegram refuses messages there; null when it doesn''t (any more).';
COMMENT ON COLUMN chat_states.moved_to IS 'The supergroup that this group has become.';

CREATE TABLE jobs (
    bot_id   bigint           NOT NULL DEFAULT botctl_bot_id(),
    name     text             NOT NULL,
    state    text             NOT NULL CHECK (state IN ('waiting', 'done', 'cancelled')),
    due_at   timestamptz      NOT NULL,
    every    double precision CHECK (every > 0),
    daily_at text,
    timezone text             NOT NULL DEFAULT 'UTC',
    chat_id  bigint,
    data     jsonb            NOT NULL DEFAULT '{}',
    trace_id text             NOT NULL DEFAULT '',
    set_at   timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, name)
) PARTITION BY HASH (bot_id);
CREATE INDEX jobs_due ON jobs (bot_id, due_at) WHERE state = 'waiting';
COMMENT ON TABLE jobs IS 'What a bot is to do later: when due, a row of its inbox is made of it.';
COMMENT ON COLUMN jobs.every IS 'Seconds from one due time to the next; null for once, or for daily_at.';
COMMENT ON COLUMN jobs.daily_at IS 'HH:MM:SS in the time zone, each day.';

DO $$
DECLARE
    tenant text;
    col name;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['chat_states', 'jobs'] LOOP
        FOR remainder IN 0..15 LOOP
            EXECUTE format(
                'CREATE TABLE botctl_internal.%I PARTITION OF public.%I FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                tenant || '_' || to_char(remainder, 'FM00'), tenant, remainder
            );
        END LOOP;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY tenant ON %I TO PUBLIC USING (bot_id = botctl_bot_id()) '
                       'WITH CHECK (bot_id IS NULL OR bot_id = botctl_bot_id())', tenant);
        EXECUTE format('CREATE POLICY control ON %I TO botctl_control USING (true) WITH CHECK (true)', tenant);
        EXECUTE format('CREATE POLICY owner ON %I TO botctl_owner USING (true) WITH CHECK (true)', tenant);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', tenant);
        EXECUTE format('GRANT SELECT ON %I TO bots, bots_ro, botctl_control', tenant);
        -- EXPLAIN must not estimate by other bots' rows.
        FOR col IN SELECT attname FROM pg_attribute
                   WHERE attrelid = tenant::regclass AND attnum > 0 AND attname NOT IN ('bot_id', 'state') LOOP
            EXECUTE format('ALTER TABLE %I ALTER COLUMN %I SET STATISTICS 0', tenant, col);
        END LOOP;
    END LOOP;
END
$$;

GRANT INSERT ON chat_states, jobs TO bots;
GRANT UPDATE (unreachable, since, moved_to) ON chat_states TO bots;
GRANT UPDATE (state, due_at, every, daily_at, timezone, chat_id, data, trace_id, set_at) ON jobs TO bots;
-- A group that becomes a supergroup has another id; its conversation goes on there.
GRANT UPDATE (chat_id) ON conversations TO bots;

-- Deferred sends of one chat, when it turns out that it can't be reached.
CREATE INDEX sends_planned_of_chat ON sends (bot_id, chat_id) WHERE mode = 'deferred' AND state = 'planned';

RESET ROLE;
