-- What is done is forgotten in the end: of one bot at a time, a page at a time, the oldest first. By the primary keys,
-- which are in order of time, so that the path of a message has no further index to keep.

SET LOCAL ROLE botctl_owner;

-- Events that were relayed long ago. `last` is where the next page begins; null when there is none.
CREATE FUNCTION botctl_internal.prune_outbox(
    bot bigint, keep double precision, after bigint, at_once integer, OUT pruned bigint, OUT last bigint
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF keep < 3600 OR at_once < 1 THEN
        RAISE EXCEPTION 'relayed events are kept an hour at least: a redis that began anew needs them again';
    END IF;
    WITH page AS MATERIALIZED (
        SELECT o.seq, o.relayed_at FROM public.outbox o
        WHERE o.bot_id = bot AND o.seq > after ORDER BY o.seq LIMIT at_once
    ), gone AS (
        DELETE FROM public.outbox o USING page
        WHERE o.bot_id = bot AND o.seq = page.seq AND page.relayed_at < now() - make_interval(secs => keep)
          AND o.relayed_at = page.relayed_at
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone), (SELECT max(seq) FROM page HAVING count(*) = at_once) INTO pruned, last;
    IF pruned = 0 THEN
        last := NULL; -- what comes after these was relayed later
    END IF;
END
$$;

-- Rows of the inbox that were done long ago, with their attempts, sends and completions: without those a replay would
-- send and ask once more, so they stay as long. A dead letter stays until an operator has decided; so does a row with a
-- send that is still open.
CREATE FUNCTION botctl_internal.prune_inbox(
    bot bigint, keep double precision, after bigint, at_once integer, OUT pruned bigint, OUT last bigint
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    since timestamptz := now() - make_interval(secs => keep);
    ids bigint[];
    causes text[];
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
    DELETE FROM public.sends s WHERE s.bot_id = bot AND s.cause = ANY (causes);
    DELETE FROM public.completions c WHERE c.bot_id = bot AND c.cause = ANY (causes);
    DELETE FROM public.attempts a WHERE a.bot_id = bot AND a.inbox_id = ANY (ids);
    DELETE FROM public.inbox i WHERE i.bot_id = bot AND i.inbox_id = ANY (ids);
    pruned := coalesce(cardinality(ids), 0);
END
$$;

REVOKE ALL ON FUNCTION botctl_internal.prune_outbox, botctl_internal.prune_inbox FROM PUBLIC;
GRANT EXECUTE ON FUNCTION botctl_internal.prune_outbox, botctl_internal.prune_inbox TO botctl_control;

RESET ROLE;
