-- Triggers are ENABLED by default for sessions of the `origin` kind only: `SET session_replication_role = replica`, which a
-- superuser may do, passes them by without a trace. ALWAYS ones fire in every session. Without the setting nothing changes.
SET LOCAL ROLE botctl_owner;
DO $$
DECLARE
    watched regclass;
    fires name;
BEGIN
    FOR watched, fires IN
        SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger t
        WHERE NOT t.tgisinternal AND t.tgfoid IN (
            'botctl_internal.audit_change'::regproc, 'botctl_internal.canary_touched'::regproc)
        ORDER BY t.tgparentid -- parents first; what they hand down is set once more
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', watched, fires);
    END LOOP;
END
$$;

-- As in 0004, but an entry whose number is beyond any that can have been is a forged one, and moves nothing: from a number
-- near the end of bigint every later entry would have overflowed. 2^40 transactions behind a seal take years.
CREATE OR REPLACE FUNCTION botctl_internal.rebase_audit() RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last public.audit_seals;
    current bigint;
    highest bigint;
BEGIN
    LOCK TABLE public.audit_seals IN SHARE ROW EXCLUSIVE MODE;
    last := botctl_internal.last_audit_seal();
    current := pg_current_xact_id()::text::bigint;
    SELECT greatest(max(tx) + 1, last.to_tx) INTO highest FROM public.audit_log
    WHERE tx < greatest(coalesce(last.next_tx, 0), current + botctl_internal.audit_offset()) + (1::bigint << 40);
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
RESET ROLE;
