-- What is forgotten still counts: counters must not fall when their rows go. And the latest messages of a chat by an
-- index. Indexes of partitioned tables can't be built beside writers: bots wait for the seconds this takes.

SET LOCAL ROLE botctl_owner;

CREATE TABLE forgotten (
    bot_id          bigint NOT NULL,
    sends_uncertain bigint NOT NULL DEFAULT 0,
    dead_letters    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (bot_id)
) PARTITION BY HASH (bot_id);
COMMENT ON TABLE forgotten IS 'What the rows counted that are gone, so that counters only rise. No bot sees it.';
COMMENT ON COLUMN forgotten.dead_letters IS 'Those that had been retried or dropped.';

DO $$
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE botctl_internal.%I PARTITION OF public.forgotten FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
            'forgotten_' || to_char(remainder, 'FM00'), remainder
        );
    END LOOP;
    -- As 0006: statistics over all bots' rows tell EXPLAIN of rows of others.
    ALTER TABLE forgotten ALTER COLUMN sends_uncertain SET STATISTICS 0, ALTER COLUMN dead_letters SET STATISTICS 0;
END
$$;

ALTER TABLE forgotten ENABLE ROW LEVEL SECURITY;
ALTER TABLE forgotten FORCE ROW LEVEL SECURITY;
CREATE POLICY control ON forgotten TO botctl_control USING (true) WITH CHECK (true);
CREATE POLICY owner ON forgotten TO botctl_owner USING (true) WITH CHECK (true);
REVOKE ALL ON forgotten FROM PUBLIC;
GRANT SELECT ON forgotten TO botctl_control;

-- Written when a row is done, not when it comes in: what waits has inbox_lanes.
CREATE INDEX inbox_of_lane ON inbox (bot_id, lane, inbox_id) WHERE state <> 'new';
-- Sends of handlers outside of any update, and operators' sends; few against all others.
CREATE INDEX sends_outside ON sends (bot_id, planned_at) WHERE cause LIKE 'op:%';
CREATE INDEX jobs_over ON jobs (bot_id, set_at) WHERE state <> 'waiting';

RESET ROLE;
