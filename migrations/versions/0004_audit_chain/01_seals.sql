-- Seals: each closes a batch of the audit log and carries the digest of the one before, so that an entry that is changed,
-- removed or put in shows. docs/database.md says what is hashed, for whoever recomputes it with a tool of their own.

SET LOCAL ROLE botctl_owner;

-- A batch holds whole transactions, by their numbers. Times and identities would not do: an entry that is committed late
-- has an earlier one. A database that is restored into another cluster finds lower numbers there; the offset, a literal
-- in this function, lifts them above those that are sealed (rebase_audit).
CREATE FUNCTION botctl_internal.audit_offset() RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS 'BEGIN RETURN 0; END';
CREATE FUNCTION botctl_internal.audit_tx() RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS 'BEGIN RETURN pg_current_xact_id()::text::bigint + botctl_internal.audit_offset(); END';

ALTER TABLE audit_log ADD COLUMN tx bigint NOT NULL DEFAULT 0;
ALTER TABLE audit_log ALTER COLUMN tx SET DEFAULT botctl_internal.audit_tx();
COMMENT ON COLUMN audit_log.tx IS 'Number of the transaction that wrote it; 0 of those before there were seals.';
CREATE INDEX audit_log_tx ON audit_log USING brin (bot_id, tx) WITH (pages_per_range = 16);

CREATE TABLE audit_seals (
    bot_id           bigint      NOT NULL DEFAULT 0 CHECK (bot_id = 0),
    seal             bigint      NOT NULL,
    kind             text        NOT NULL CHECK (kind IN ('batch', 'retention')),
    from_tx          bigint      NOT NULL,
    to_tx            bigint      NOT NULL,
    next_tx          bigint      NOT NULL,
    entries          integer     NOT NULL,
    root             bytea       NOT NULL,
    previous         bytea       NOT NULL,
    digest           bytea       NOT NULL,
    sealed_at        timestamptz NOT NULL,
    cutoff           timestamptz,
    forgotten_seal   bigint,
    forgotten_digest bytea,
    audit_ids        bigint[]      NOT NULL DEFAULT '{}',
    ats              timestamptz[] NOT NULL DEFAULT '{}',
    digests          bytea         NOT NULL DEFAULT '',
    PRIMARY KEY (bot_id, seal)
) PARTITION BY HASH (bot_id);
COMMENT ON TABLE audit_seals IS 'The chain over the audit log; of the fleet, so bot_id is 0.';
COMMENT ON COLUMN audit_seals.to_tx IS 'It seals the entries with from_tx <= tx < to_tx, and there are no others of these.';
COMMENT ON COLUMN audit_seals.next_tx IS 'Transactions from this number on have begun after sealed_at.';
COMMENT ON COLUMN audit_seals.root IS 'Digest of the list of its entries.';
COMMENT ON COLUMN audit_seals.cutoff IS 'Of a retention: entries before this have been forgotten as the operator has set.';
COMMENT ON COLUMN audit_seals.forgotten_seal IS 'Of a retention: the last of the seals that were forgotten with them.';
COMMENT ON COLUMN audit_seals.digests IS 'Digests of the entries, 32 bytes each, in the order of audit_ids.';

DO $$
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE botctl_internal.%I PARTITION OF public.audit_seals FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
            'audit_seals_' || to_char(remainder, 'FM00'), remainder
        );
    END LOOP;
END
$$;
ALTER TABLE audit_seals ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_seals FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_seals TO bots, bots_ro
USING (bot_id = botctl_bot_id()) WITH CHECK (bot_id = botctl_bot_id());
CREATE POLICY control ON audit_seals TO botctl_control USING (true) WITH CHECK (true);
CREATE POLICY owner ON audit_seals TO botctl_owner USING (true) WITH CHECK (true);
REVOKE ALL ON audit_seals FROM PUBLIC;
GRANT SELECT ON audit_seals TO botctl_control;

-- What is hashed: each field as its length in bytes, a colon, its UTF-8 and a comma; a null as `-,`.
CREATE FUNCTION botctl_internal.audit_fields(VARIADIC fields text[]) RETURNS bytea LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT convert_to(string_agg(coalesce(octet_length(field) || ':' || field || ',', '-,'), '' ORDER BY place), 'UTF8')
    FROM unnest(fields) WITH ORDINALITY AS one (field, place)
);

CREATE FUNCTION botctl_internal.audit_epoch(moment timestamptz) RETURNS text LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
RETURN extract(epoch FROM moment)::text;

CREATE FUNCTION botctl_internal.audit_entry_digest(entry public.audit_log) RETURNS bytea LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN sha256(botctl_internal.audit_fields(
    'botctl-audit-entry-1', entry.bot_id::text, botctl_internal.audit_epoch(entry.at), entry.audit_id::text,
    entry.tx::text, entry.actor, entry.action, entry.entity, entry.before::text, entry.after::text
));

CREATE FUNCTION botctl_internal.audit_seal_digest(seal public.audit_seals) RETURNS bytea LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN sha256(botctl_internal.audit_fields(
    'botctl-audit-seal-1', seal.seal::text, seal.kind, seal.from_tx::text, seal.to_tx::text, seal.next_tx::text,
    seal.entries::text, encode(seal.root, 'hex'), encode(seal.previous, 'hex'),
    botctl_internal.audit_epoch(seal.sealed_at), botctl_internal.audit_epoch(seal.cutoff), seal.forgotten_seal::text,
    encode(seal.forgotten_digest, 'hex')
));

CREATE FUNCTION botctl_internal.last_audit_seal() RETURNS public.audit_seals LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
RETURN (SELECT s FROM public.audit_seals s WHERE s.bot_id = 0 ORDER BY s.seal DESC LIMIT 1);

-- Seals what can't change any more: entries of transactions older than every one that is still open. About `most` of
-- them, since a transaction is sealed as a whole. Returns how many entries; 0 when there is nothing to seal.
CREATE FUNCTION botctl_internal.seal_audit(most integer DEFAULT 5000) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' SET jit = off
AS $$
DECLARE
    last public.audit_seals;
    made public.audit_seals;
    closed bigint;
    enough bigint;
BEGIN
    LOCK TABLE public.audit_seals IN SHARE ROW EXCLUSIVE MODE;
    last := botctl_internal.last_audit_seal();
    made.bot_id := 0;
    made.kind := 'batch';
    made.seal := coalesce(last.seal, 0) + 1;
    made.from_tx := coalesce(last.to_tx, 0);
    made.previous := coalesce(last.digest, '\x0000000000000000000000000000000000000000000000000000000000000000');
    closed := pg_snapshot_xmin(pg_current_snapshot())::text::bigint + botctl_internal.audit_offset();
    SELECT l.tx + 1 INTO enough FROM public.audit_log l
    WHERE l.tx >= made.from_tx AND l.tx < closed ORDER BY l.tx OFFSET greatest(most, 1) - 1 LIMIT 1;
    made.to_tx := coalesce(enough, closed);
    SELECT count(*), coalesce(array_agg(audit_id), '{}'), coalesce(array_agg(at), '{}'),
           coalesce(string_agg(entry_digest, ''), ''), sha256(coalesce(string_agg(botctl_internal.audit_fields(
               audit_id::text, botctl_internal.audit_epoch(at), encode(entry_digest, 'hex')), ''), ''))
    INTO made.entries, made.audit_ids, made.ats, made.digests, made.root
    FROM (SELECT l.audit_id, l.at, botctl_internal.audit_entry_digest(l) AS entry_digest FROM public.audit_log l
          WHERE l.tx >= made.from_tx AND l.tx < made.to_tx ORDER BY l.audit_id, l.bot_id, l.at) listed;
    IF made.entries = 0 THEN
        RETURN 0;
    END IF;
    made.next_tx := botctl_internal.audit_tx();
    made.sealed_at := clock_timestamp();
    made.digest := botctl_internal.audit_seal_digest(made);
    INSERT INTO public.audit_seals SELECT made.*;
    RETURN made.entries;
END
$$;

-- Forgets whole months that are older than `days`, with the seals that only they need. The seal of the retention says up
-- to when, and carries the last digest that was forgotten, so that it does not look like a truncation. Waits until what
-- it would forget is sealed. Returns the time before which nothing is kept, null when there was nothing to forget.
CREATE FUNCTION botctl_internal.forget_audit(days integer) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s'
AS $$
DECLARE
    last public.audit_seals;
    made public.audit_seals;
    going name[];
    month name;
BEGIN
    IF days < 1 THEN
        RAISE EXCEPTION 'a day must be kept at least, not %', days;
    END IF;
    LOCK TABLE public.audit_seals IN SHARE ROW EXCLUSIVE MODE;
    last := botctl_internal.last_audit_seal();
    made.cutoff := date_trunc('month', now() - make_interval(days => days));
    going := ARRAY(
        SELECT c.relname FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
        WHERE i.inhparent = 'public.audit_log'::regclass AND c.relname ~ '^audit_log_[0-9]{4}_[0-9]{2}$'
          AND to_timestamp(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= made.cutoff
    );
    IF last.seal IS NULL
       OR (cardinality(going) = 0 AND NOT EXISTS (SELECT FROM public.audit_log WHERE at < made.cutoff))
       OR EXISTS (SELECT FROM public.audit_log WHERE at < made.cutoff AND tx >= last.to_tx) THEN
        RETURN NULL;
    END IF;
    made.bot_id := 0;
    made.kind := 'retention';
    made.seal := last.seal + 1;
    made.from_tx := last.to_tx;
    made.to_tx := last.to_tx;
    made.entries := 0;
    made.audit_ids := '{}';
    made.ats := '{}';
    made.digests := '';
    made.root := sha256('');
    made.previous := last.digest;
    made.forgotten_seal := coalesce(
        (SELECT min(s.seal) - 1 FROM public.audit_seals s
         WHERE s.kind = 'batch' AND (SELECT max(one) FROM unnest(s.ats) one) >= made.cutoff),
        last.seal
    );
    made.forgotten_digest := coalesce(
        (SELECT s.digest FROM public.audit_seals s WHERE s.seal = made.forgotten_seal),
        (SELECT s.previous FROM public.audit_seals s WHERE s.seal = made.forgotten_seal + 1)
    );
    FOREACH month IN ARRAY going LOOP
        EXECUTE format('DROP TABLE botctl_internal.%I', month);
    END LOOP;
    DELETE FROM public.audit_log WHERE at < made.cutoff; -- the DEFAULT partition's
    DELETE FROM public.audit_seals WHERE bot_id = 0 AND seal <= made.forgotten_seal;
    made.next_tx := botctl_internal.audit_tx();
    made.sealed_at := clock_timestamp();
    made.digest := botctl_internal.audit_seal_digest(made);
    INSERT INTO public.audit_seals SELECT made.*;
    RETURN made.cutoff;
END
$$;

-- For the administrator, at every start and while nobody writes: a cluster whose transactions have lower numbers than
-- those that are here gets an offset. Returns true when there is a new one.
CREATE FUNCTION botctl_internal.rebase_audit() RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    current bigint;
    highest bigint;
BEGIN
    LOCK TABLE public.audit_seals IN SHARE ROW EXCLUSIVE MODE;
    current := pg_current_xact_id()::text::bigint;
    SELECT greatest(max(tx) + 1, (botctl_internal.last_audit_seal()).to_tx) INTO highest FROM public.audit_log;
    IF highest IS NULL OR current + botctl_internal.audit_offset() >= highest THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION botctl_internal.audit_offset() RETURNS bigint LANGUAGE plpgsql STABLE '
        'SET search_path = pg_catalog, pg_temp AS %L', format('BEGIN RETURN %s; END', highest - current)
    );
    RETURN true;
END
$$;

REVOKE ALL ON FUNCTION
    botctl_internal.audit_offset, botctl_internal.audit_tx, botctl_internal.audit_fields, botctl_internal.audit_epoch,
    botctl_internal.audit_entry_digest, botctl_internal.audit_seal_digest, botctl_internal.last_audit_seal,
    botctl_internal.seal_audit, botctl_internal.forget_audit, botctl_internal.rebase_audit
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    botctl_internal.audit_offset, botctl_internal.seal_audit, botctl_internal.forget_audit
TO botctl_control;

RESET ROLE;
GRANT EXECUTE ON FUNCTION botctl_internal.rebase_audit TO CURRENT_USER;
