-- Which data key a bot has last been given. Without it a bot whose row of bot_keys was deleted looks like a new one: it
-- would get another key number 1, and nothing would say that what the first one has sealed is lost.
SET LOCAL ROLE botctl_owner;
ALTER TABLE bots ADD COLUMN newest_key_id integer NOT NULL DEFAULT 0 CHECK (newest_key_id >= 0);
COMMENT ON COLUMN bots.newest_key_id IS 'Number of the newest data key it was ever given; 0 for none.';
ALTER TABLE bots ALTER COLUMN newest_key_id SET STATISTICS 0;
UPDATE bots SET newest_key_id = made.newest
FROM (SELECT bot_id, max(key_id) AS newest FROM bot_keys GROUP BY bot_id) made WHERE made.bot_id = bots.bot_id;
GRANT UPDATE (newest_key_id) ON bots TO botctl_control;
RESET ROLE;
