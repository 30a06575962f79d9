-- What following one message needs, and what dead letters need to be worked off.

SET LOCAL ROLE botctl_owner;

ALTER TABLE inbox ADD COLUMN begun_at timestamptz;
COMMENT ON COLUMN inbox.begun_at IS
    'When the attempt began that is under way, or that ended well. Every other attempt has a row in attempts.';

-- A dead letter that an operator has dropped: kept with all it says, and in nobody's way.
ALTER TABLE inbox DROP CONSTRAINT inbox_state_check;
ALTER TABLE inbox ADD CONSTRAINT inbox_state_check CHECK (state IN ('new', 'done', 'dead', 'dropped'));
CREATE INDEX inbox_dropped ON inbox (bot_id) WHERE state = 'dropped';

ALTER TABLE completions ADD COLUMN cached_tokens integer, ADD COLUMN retries integer, ADD COLUMN finish_reason text;
COMMENT ON COLUMN completions.retries IS 'Calls of the completion API before the one that was answered.';

ALTER TABLE sends ADD COLUMN waits_until timestamptz;
COMMENT ON COLUMN sends.waits_until IS 'Telegram''s last word, after a 429, on when it may be sent; null after any other.';

-- One row for each attempt that did not end well, and for what operators did with a dead letter. An attempt that ends
-- well costs nothing here.
CREATE TABLE attempts (
    bot_id     bigint      NOT NULL DEFAULT botctl_bot_id(),
    attempt_id bigint      GENERATED ALWAYS AS IDENTITY,
    inbox_id   bigint      NOT NULL,
    attempt    integer     NOT NULL,
    outcome    text        NOT NULL
        CHECK (outcome IN ('failed', 'waited', 'interrupted', 'given up', 'retried', 'dropped')),
    begun_at   timestamptz,
    ended_at   timestamptz NOT NULL DEFAULT now(),
    error      text,
    traceback  text,
    PRIMARY KEY (bot_id, inbox_id, attempt_id)
) PARTITION BY HASH (bot_id);
CREATE INDEX attempts_retried ON attempts (bot_id) WHERE outcome = 'retried';
COMMENT ON COLUMN attempts.outcome IS
    'failed: tried again; waited: for something outside, not counted; interrupted: by the end of the process, which '
    'ended_at is later than; given up: a dead letter; retried, dropped: by an operator.';

DO $$
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE botctl_internal.%I PARTITION OF public.attempts FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
            'attempts_' || to_char(remainder, 'FM00'), remainder
        );
    END LOOP;
END
$$;

ALTER TABLE attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE attempts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON attempts
    USING (bot_id = botctl_bot_id()) WITH CHECK (bot_id IS NULL OR bot_id = botctl_bot_id());
CREATE POLICY control ON attempts TO botctl_control USING (true) WITH CHECK (true);
CREATE POLICY owner ON attempts TO botctl_owner USING (true) WITH CHECK (true);
REVOKE ALL ON attempts FROM PUBLIC;
GRANT SELECT ON attempts TO bots, bots_ro, botctl_control;
GRANT INSERT ON attempts TO bots, botctl_control;
GRANT UPDATE (begun_at) ON inbox TO bots, botctl_control;
GRANT UPDATE (waits_until) ON sends TO bots;

-- As 0006: statistics over all bots' rows tell EXPLAIN of rows of others.
DO $$
DECLARE
    tenant regclass;
    col name;
BEGIN
    FOR tenant, col IN
        SELECT c.oid::regclass, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.oid IN ('inbox'::regclass, 'completions'::regclass, 'sends'::regclass, 'attempts'::regclass)
          AND a.attnum > 0 AND NOT a.attisdropped AND coalesce(a.attstattarget, -1) <> 0
          AND a.attname NOT IN ('bot_id', 'conversation_id', 'message_id', 'inbox_id', 'seq', 'run_id', 'state')
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS 0', tenant, col);
    END LOOP;
END
$$;

RESET ROLE;
