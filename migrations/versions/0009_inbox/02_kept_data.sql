-- What handlers keep with python-telegram-bot's persistence: user_data, chat_data, bot_data, states of conversations.
SET LOCAL ROLE botctl_owner;

CREATE TABLE kept_data (
    bot_id     bigint      NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('bot', 'chat', 'conversation', 'user')),
    owner      text        NOT NULL,
    value      text        NOT NULL,
    gone       boolean     NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, kind, owner)
) PARTITION BY HASH (bot_id);
COMMENT ON TABLE kept_data IS 'Written with the end of the update it belongs to; one row an owner.';
COMMENT ON COLUMN kept_data.owner IS 'Id of the user or chat; empty for the bot; name and key of a conversation as JSON.';

DO $$
DECLARE
    col name;
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE botctl_internal.%I PARTITION OF public.kept_data FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
            'kept_data_' || to_char(remainder, 'FM00'), remainder
        );
    END LOOP;
    FOREACH col IN ARRAY ARRAY['kind', 'owner', 'value', 'gone', 'updated_at'] LOOP
        EXECUTE format('ALTER TABLE kept_data ALTER COLUMN %I SET STATISTICS 0', col);
    END LOOP;
END
$$;
ALTER TABLE kept_data ENABLE ROW LEVEL SECURITY;
ALTER TABLE kept_data FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON kept_data TO PUBLIC USING (bot_id = botctl_bot_id())
    WITH CHECK (bot_id IS NULL OR bot_id = botctl_bot_id());
CREATE POLICY control ON kept_data TO botctl_control USING (true) WITH CHECK (true);
CREATE POLICY owner ON kept_data TO botctl_owner USING (true) WITH CHECK (true);
REVOKE ALL ON kept_data FROM PUBLIC;
GRANT SELECT ON kept_data TO bots, bots_ro, botctl_control;
GRANT INSERT ON kept_data TO bots;
GRANT UPDATE (value, gone, updated_at) ON kept_data TO bots;
RESET ROLE;
