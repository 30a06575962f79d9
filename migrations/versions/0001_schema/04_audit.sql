-- The audit log is append-only: rows come from these functions alone, which run as the owner; nobody has UPDATE or DELETE.

SET LOCAL ROLE botctl_owner;

CREATE FUNCTION botctl_internal.record_audit(bot bigint, action text, entity text, before jsonb, after jsonb)
RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO public.audit_log (bot_id, actor, action, entity, before, after)
    VALUES (bot, session_user, action, entity, before, after);
END;
REVOKE ALL ON FUNCTION botctl_internal.record_audit FROM PUBLIC;
GRANT EXECUTE ON FUNCTION botctl_internal.record_audit TO botctl_control;

CREATE FUNCTION botctl_internal.masked(line jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN CASE WHEN line ? 'redis_password_sha256' THEN line || '{"redis_password_sha256": "***"}' ELSE line END;
REVOKE ALL ON FUNCTION botctl_internal.masked FROM PUBLIC;

-- One statement, one INSERT … SELECT, however many rows it changed.
CREATE FUNCTION botctl_internal.audit_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO public.audit_log (bot_id, actor, action, entity, after)
        SELECT bot_id, session_user, 'insert', TG_TABLE_NAME, botctl_internal.masked(to_jsonb(new_rows))
        FROM new_rows;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO public.audit_log (bot_id, actor, action, entity, before, after)
        SELECT bot_id, session_user, 'update', TG_TABLE_NAME, botctl_internal.masked(to_jsonb(old_rows)),
               botctl_internal.masked(to_jsonb(new_rows))
        FROM old_rows JOIN new_rows USING (bot_id) WHERE old_rows IS DISTINCT FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO public.audit_log (bot_id, actor, action, entity, before)
        SELECT bot_id, session_user, 'delete', TG_TABLE_NAME, botctl_internal.masked(to_jsonb(old_rows))
        FROM old_rows;
    ELSE
        INSERT INTO public.audit_log (bot_id, actor, action, entity)
        VALUES (0, session_user, 'truncate', TG_TABLE_NAME);
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION botctl_internal.audit_change FROM PUBLIC;

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['bots', 'bot_credentials'] LOOP
        EXECUTE format('CREATE TRIGGER audit_insert AFTER INSERT ON %I REFERENCING NEW TABLE AS new_rows '
                       'FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change()', tenant);
        EXECUTE format('CREATE TRIGGER audit_update AFTER UPDATE ON %I '
                       'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
                       'FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change()', tenant);
        EXECUTE format('CREATE TRIGGER audit_delete AFTER DELETE ON %I REFERENCING OLD TABLE AS old_rows '
                       'FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change()', tenant);
        EXECUTE format('CREATE TRIGGER audit_truncate AFTER TRUNCATE ON %I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION botctl_internal.audit_change()', tenant);
    END LOOP;
END
$$;

-- Makes the monthly partitions of this month and the `months` after it; rows that fell into the DEFAULT one move.
CREATE FUNCTION botctl_internal.ensure_audit_partitions(months integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'
AS $$
DECLARE
    first_day timestamptz;
    next_day timestamptz;
    child text;
    made integer := 0;
BEGIN
    IF months NOT BETWEEN 0 AND 24 THEN
        RAISE EXCEPTION 'months must be 0 to 24, not %', months;
    END IF;
    FOR ahead IN 0..months LOOP
        first_day := date_trunc('month', now()) + make_interval(months => ahead);
        next_day := first_day + interval '1 month';
        child := 'audit_log_' || to_char(first_day, 'YYYY_MM');
        CONTINUE WHEN to_regclass('botctl_internal.' || child) IS NOT NULL;
        EXECUTE format('CREATE TABLE botctl_internal.%I (LIKE public.audit_log INCLUDING DEFAULTS)', child);
        EXECUTE format(
            'WITH moved AS (DELETE FROM botctl_internal.audit_log_default WHERE at >= %2$L AND at < %3$L RETURNING *) '
            'INSERT INTO botctl_internal.%1$I SELECT * FROM moved', child, first_day, next_day
        );
        EXECUTE format('ALTER TABLE public.audit_log ATTACH PARTITION botctl_internal.%I FOR VALUES FROM (%L) TO (%L)',
                       child, first_day, next_day);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;
REVOKE ALL ON FUNCTION botctl_internal.ensure_audit_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION botctl_internal.ensure_audit_partitions TO botctl_control;
SELECT botctl_internal.ensure_audit_partitions(2);

RESET ROLE;
