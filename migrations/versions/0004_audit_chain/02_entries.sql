-- What stands in an entry: no secret, wherever it comes from; and the operator, for what `control` does at a command.

SET LOCAL ROLE botctl_owner;

-- By its name, whether it is a column or a key within JSON. A fingerprint or a file's path is none.
CREATE FUNCTION botctl_internal.names_secret(key text) RETURNS boolean LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
RETURN key ~* '(password|passwd|secret|credential|api_?key|private_?key|authorization|verifier)'
       OR key ~* '(^|_)(token|key|hash|sha256|wrapped|sealed|master_check|dsn)$';

-- Masks what is named like a secret or looks like one: bytea, bot tokens, user and password within a URL.
CREATE OR REPLACE FUNCTION botctl_internal.masked(line jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE jsonb_typeof(line)
        WHEN 'object' THEN (
            SELECT coalesce(jsonb_object_agg(key, CASE
                WHEN botctl_internal.names_secret(key) AND jsonb_typeof(value) NOT IN ('null', 'boolean') THEN '"***"'
                ELSE botctl_internal.masked(value)
            END), '{}') FROM jsonb_each(line)
        )
        WHEN 'array' THEN (
            SELECT coalesce(jsonb_agg(botctl_internal.masked(value) ORDER BY place), '[]')
            FROM jsonb_array_elements(line) WITH ORDINALITY AS one (value, place)
        )
        WHEN 'string' THEN CASE
            WHEN line #>> '{}' ~ '^\\x([0-9a-f]{2})*$' THEN '"***"'
            ELSE to_jsonb(regexp_replace(regexp_replace(
                line #>> '{}', '(\m[0-9]{5,}):[A-Za-z0-9_-]{30,}', '\1:***', 'g'),
                '://[^/@[:space:]]+@', '://***@', 'g'))
        END
        ELSE line
    END;
END
$$;

CREATE OR REPLACE FUNCTION botctl_internal.record_audit(bot bigint, action text, entity text, before jsonb, after jsonb)
RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO public.audit_log (bot_id, actor, action, entity, before, after)
    VALUES (bot, session_user, action, entity, botctl_internal.masked(before), botctl_internal.masked(after));
END;

-- The actor is `operator` or `operator:NAME`, which no login is called: `control` says who commanded it.
CREATE FUNCTION botctl_internal.record_operator(
    bot bigint, operator text, action text, entity text, before jsonb, after jsonb
) RETURNS void LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    INSERT INTO public.audit_log (bot_id, actor, action, entity, before, after)
    VALUES (bot, 'operator' || CASE WHEN operator <> '' THEN ':' || operator ELSE '' END, action, entity,
            botctl_internal.masked(before), botctl_internal.masked(after));
END;

REVOKE ALL ON FUNCTION botctl_internal.names_secret, botctl_internal.record_operator FROM PUBLIC;
GRANT EXECUTE ON FUNCTION botctl_internal.record_operator TO botctl_control;

RESET ROLE;
