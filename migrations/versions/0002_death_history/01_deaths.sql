-- What an operator asks after a death: of what, in which state, how long it had lived, what it said last.

SET LOCAL ROLE botctl_owner;

ALTER TABLE bot_runs
    ADD COLUMN from_state text,
    ADD COLUMN cause      text,
    ADD COLUMN action     text,
    ADD COLUMN log_tail   text[] NOT NULL DEFAULT '{}',
    ADD COLUMN stacks     text,
    ADD COLUMN memory_mb  double precision,
    ADD COLUMN silent_for double precision,
    ADD COLUMN duration   double precision;
COMMENT ON COLUMN bot_runs.from_state IS 'State in which it ended; stopping: it was asked to.';
COMMENT ON COLUMN bot_runs.cause IS 'What it ended of, in one sentence.';
COMMENT ON COLUMN bot_runs.action IS 'What was done about it.';
COMMENT ON COLUMN bot_runs.log_tail IS 'The last lines of its log.';
COMMENT ON COLUMN bot_runs.stacks IS 'Stacks of its threads and tasks, when they were asked for.';
COMMENT ON COLUMN bot_runs.memory_mb IS 'Its PSS as last reported.';
COMMENT ON COLUMN bot_runs.silent_for IS 'Seconds from its last heartbeat to its end.';
COMMENT ON COLUMN bot_runs.duration IS 'Seconds it lived, by a clock that nobody sets.';

CREATE INDEX bot_runs_ended ON bot_runs (bot_id, ended_at DESC, run_id DESC) WHERE ended_at IS NOT NULL;

GRANT UPDATE (from_state, cause, action, log_tail, stacks, memory_mb, silent_for, duration) ON bot_runs
TO botctl_control;

-- Forgets ended runs that are both older than `days` and not among the latest `keep` of their bot, and, whatever their
-- age, those not among its latest `most`: a bot that dies again and again fills no disk. At most `at_once` a call, so
-- that the first one after a long time takes no longer than the others. Returns how many.
CREATE FUNCTION botctl_internal.prune_runs(
    keep integer, days integer, at_once integer DEFAULT 20000, most integer DEFAULT 10000
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pruned bigint;
BEGIN
    IF keep < 1 OR days < 1 THEN
        RAISE EXCEPTION 'a run and a day must be kept at least, not % and %', keep, days;
    END IF;
    WITH rules(beyond, before) AS (
        VALUES (keep, now() - make_interval(days => days)), (greatest(keep, most), timestamptz 'infinity')
    ), latest_to_go AS (
        SELECT b.bot_id, rules.before, first.ended_at, first.run_id
        FROM public.bots b CROSS JOIN rules CROSS JOIN LATERAL (
            SELECT r.ended_at, r.run_id FROM public.bot_runs r
            WHERE r.bot_id = b.bot_id AND r.ended_at IS NOT NULL
            ORDER BY r.ended_at DESC, r.run_id DESC OFFSET rules.beyond LIMIT 1
        ) first
        WHERE EXISTS (SELECT FROM public.bot_runs r WHERE r.bot_id = b.bot_id AND r.ended_at < rules.before)
    ), going AS (
        SELECT r.bot_id, r.run_id
        FROM public.bot_runs r JOIN latest_to_go l ON l.bot_id = r.bot_id
        WHERE r.ended_at < l.before AND (r.ended_at, r.run_id) <= (l.ended_at, l.run_id)
        LIMIT at_once
    )
    DELETE FROM public.bot_runs r USING going g WHERE r.bot_id = g.bot_id AND r.run_id = g.run_id;
    GET DIAGNOSTICS pruned = ROW_COUNT;
    RETURN pruned;
END
$$;
REVOKE ALL ON FUNCTION botctl_internal.prune_runs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION botctl_internal.prune_runs TO botctl_control;

RESET ROLE;
