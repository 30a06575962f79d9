-- Requests a bot has made of others, keys that its handlers do something only once for, and what of an event isn't data.

SET LOCAL ROLE botctl_owner;

ALTER TABLE outbox ADD COLUMN envelope jsonb;
ALTER TABLE outbox ALTER COLUMN envelope SET STATISTICS 0;
COMMENT ON COLUMN outbox.envelope IS 'Of a request or a reply: to, deadline, reply_to, error; null for other events.';

CREATE TABLE requests (
    bot_id      bigint      NOT NULL DEFAULT botctl_bot_id(),
    request_id  text        NOT NULL,
    cause       text        NOT NULL,
    target      text        NOT NULL,
    type        text        NOT NULL,
    state       text        NOT NULL CHECK (state IN ('waiting', 'answered', 'refused', 'expired', 'void')),
    reply       jsonb,
    error       text,
    asked_at    timestamptz NOT NULL DEFAULT now(),
    deadline    timestamptz NOT NULL,
    answered_at timestamptz,
    trace_id    text        NOT NULL DEFAULT '',
    PRIMARY KEY (bot_id, request_id)
) PARTITION BY HASH (bot_id);
CREATE INDEX requests_of_cause ON requests (bot_id, cause);
CREATE INDEX requests_by_deadline ON requests (bot_id, deadline);
COMMENT ON TABLE requests IS 'What a bot has asked others, with the reply, so that a replay asks nothing twice.';
COMMENT ON COLUMN requests.request_id IS 'Id of the event that is the request.';
COMMENT ON COLUMN requests.state IS 'void: its handling has failed with it and is to ask anew.';

CREATE TABLE once_keys (
    bot_id bigint      NOT NULL DEFAULT botctl_bot_id(),
    key    text        NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    cause  text        NOT NULL,
    state  text        NOT NULL CHECK (state IN ('held', 'taken', 'free')),
    at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, key)
) PARTITION BY HASH (bot_id);
CREATE INDEX once_keys_held ON once_keys (bot_id, cause) WHERE state = 'held';
CREATE INDEX once_keys_by_age ON once_keys (bot_id, at);
COMMENT ON TABLE once_keys IS 'What a bot''s handlers have done once and for all, and for which cause.';
COMMENT ON COLUMN once_keys.state IS 'held: its cause is still being handled; free: the handling has failed.';

DO $$
DECLARE
    tenant text;
    col name;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['requests', 'once_keys'] LOOP
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

GRANT INSERT ON requests, once_keys TO bots;
GRANT UPDATE (state, reply, error, answered_at) ON requests TO bots;
GRANT UPDATE (state, cause, at) ON once_keys TO bots;

-- Forgets keys older than `days`, and requests whose deadline was over `request_days` ago. At most `at_once` of each a
-- call. Returns how many.
CREATE FUNCTION botctl_internal.prune_bus(
    days integer, request_days integer DEFAULT 7, at_once integer DEFAULT 20000
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    keys bigint;
    asked bigint;
BEGIN
    IF days < 1 OR request_days < 1 THEN
        RAISE EXCEPTION 'a day must be kept at least, not % and %', days, request_days;
    END IF;
    WITH going AS (
        SELECT o.bot_id, o.key FROM public.bots b CROSS JOIN LATERAL (
            SELECT k.bot_id, k.key FROM public.once_keys k
            WHERE k.bot_id = b.bot_id AND k.at < now() - make_interval(days => days) LIMIT at_once
        ) o LIMIT at_once
    )
    DELETE FROM public.once_keys k USING going g WHERE k.bot_id = g.bot_id AND k.key = g.key;
    GET DIAGNOSTICS keys = ROW_COUNT;
    WITH going AS (
        SELECT o.bot_id, o.request_id FROM public.bots b CROSS JOIN LATERAL (
            SELECT r.bot_id, r.request_id FROM public.requests r
            WHERE r.bot_id = b.bot_id AND r.deadline < now() - make_interval(days => request_days) LIMIT at_once
        ) o LIMIT at_once
    )
    DELETE FROM public.requests r USING going g WHERE r.bot_id = g.bot_id AND r.request_id = g.request_id;
    GET DIAGNOSTICS asked = ROW_COUNT;
    RETURN keys + asked;
END
$$;
REVOKE ALL ON FUNCTION botctl_internal.prune_bus FROM PUBLIC;
GRANT EXECUTE ON FUNCTION botctl_internal.prune_bus TO botctl_control;

RESET ROLE;
