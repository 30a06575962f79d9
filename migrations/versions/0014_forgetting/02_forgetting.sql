-- What counted goes on counting; sends that belong to no row of the inbox, and jobs that are over, are forgotten too.

SET LOCAL ROLE botctl_owner;

CREATE FUNCTION botctl_internal.note_forgotten(bot bigint, uncertain bigint, letters bigint) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO public.forgotten AS f (bot_id, sends_uncertain, dead_letters)
    SELECT bot, coalesce(uncertain, 0), coalesce(letters, 0) WHERE uncertain > 0 OR letters > 0
    ON CONFLICT (bot_id) DO UPDATE SET sends_uncertain = f.sends_uncertain + excluded.sends_uncertain,
                                       dead_letters = f.dead_letters + excluded.dead_letters
$$;

-- As in 0013, but that uncertain sends and dead letters that an operator has worked off are counted as they go.
CREATE OR REPLACE FUNCTION botctl_internal.prune_inbox(
    bot bigint, keep double precision, after bigint, at_once integer, OUT pruned bigint, OUT last bigint
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    since timestamptz := now() - make_interval(secs => keep);
    ids bigint[];
    causes text[];
    hidden bigint;
    retried bigint;
    dropped bigint;
BEGIN
    IF keep < 2 * 86400 OR at_once < 1 THEN
        RAISE EXCEPTION 'what is done is kept two days at least: Telegram may deliver an update again for one';
    END IF;
    SELECT max(page.inbox_id) FILTER (WHERE page.received_at < since),
           array_agg(page.inbox_id) FILTER (WHERE page.old), array_agg(page.cause) FILTER (WHERE page.old)
    INTO last, ids, causes
    FROM (
        SELECT i.inbox_id, i.cause, i.received_at, i.state IN ('done', 'dropped') AND i.done_at < since AND NOT EXISTS (
                   SELECT FROM public.sends s
                   WHERE s.bot_id = bot AND s.cause = i.cause AND s.state IN ('planned', 'sending')) AS old
        FROM public.inbox i WHERE i.bot_id = bot AND i.inbox_id > after ORDER BY i.inbox_id LIMIT at_once
    ) page;
    WITH gone AS (DELETE FROM public.sends s WHERE s.bot_id = bot AND s.cause = ANY (causes) RETURNING s.uncertain)
    SELECT sum(gone.uncertain) INTO hidden FROM gone;
    DELETE FROM public.completions c WHERE c.bot_id = bot AND c.cause = ANY (causes);
    WITH gone AS (DELETE FROM public.attempts a WHERE a.bot_id = bot AND a.inbox_id = ANY (ids) RETURNING a.outcome)
    SELECT count(*) INTO retried FROM gone WHERE gone.outcome = 'retried';
    WITH gone AS (DELETE FROM public.inbox i WHERE i.bot_id = bot AND i.inbox_id = ANY (ids) RETURNING i.state)
    SELECT count(*) INTO dropped FROM gone WHERE gone.state = 'dropped';
    PERFORM botctl_internal.note_forgotten(bot, hidden, retried + dropped);
    pruned := coalesce(cardinality(ids), 0);
END
$$;

-- Sends of a handler's own timer or task have a cause of their own and no row of the inbox. `last` is null at the end.
CREATE FUNCTION botctl_internal.prune_outside(
    bot bigint, keep double precision, after bigint, at_once integer, OUT pruned bigint, OUT last bigint
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hidden bigint;
BEGIN
    IF keep < 2 * 86400 OR at_once < 1 THEN
        RAISE EXCEPTION 'what is done is kept two days at least';
    END IF;
    WITH page AS MATERIALIZED (
        SELECT s.cause, s.n FROM public.sends s
        WHERE s.bot_id = bot AND s.cause LIKE 'op:%' AND s.planned_at < now() - make_interval(secs => keep)
          AND s.state NOT IN ('planned', 'sending')
          AND NOT EXISTS (SELECT FROM public.inbox i WHERE i.bot_id = bot AND i.cause = s.cause)
        ORDER BY s.planned_at LIMIT at_once
    ), gone AS (
        DELETE FROM public.sends s USING page
        WHERE s.bot_id = bot AND s.cause = page.cause AND s.n = page.n AND s.state NOT IN ('planned', 'sending')
        RETURNING s.uncertain
    )
    SELECT count(*), sum(gone.uncertain) INTO pruned, hidden FROM gone;
    PERFORM botctl_internal.note_forgotten(bot, hidden, 0);
    last := CASE WHEN pruned = at_once THEN after + 1 END;
END
$$;

-- Jobs that were done, or called off: each has had its row of the inbox, which is kept for itself.
CREATE FUNCTION botctl_internal.prune_jobs(
    bot bigint, keep double precision, after bigint, at_once integer, OUT pruned bigint, OUT last bigint
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    since timestamptz := now() - make_interval(secs => keep);
BEGIN
    IF keep < 2 * 86400 OR at_once < 1 THEN
        RAISE EXCEPTION 'what is done is kept two days at least';
    END IF;
    WITH page AS MATERIALIZED (
        SELECT j.name FROM public.jobs j
        WHERE j.bot_id = bot AND j.state <> 'waiting' AND j.set_at < since
          AND (j.state = 'cancelled' OR j.due_at < since)
        ORDER BY j.set_at LIMIT at_once
    ), gone AS (
        DELETE FROM public.jobs j USING page
        WHERE j.bot_id = bot AND j.name = page.name AND j.state <> 'waiting'
        RETURNING 1
    )
    SELECT count(*) INTO pruned FROM gone;
    last := CASE WHEN pruned = at_once THEN after + 1 END;
END
$$;

REVOKE ALL ON FUNCTION botctl_internal.note_forgotten, botctl_internal.prune_outside, botctl_internal.prune_jobs
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION botctl_internal.prune_outside, botctl_internal.prune_jobs TO botctl_control;

-- A retried dead letter makes the call anew that it died of.
GRANT UPDATE (state) ON sends TO botctl_control;

RESET ROLE;
