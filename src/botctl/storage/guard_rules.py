"""Rules about tables, as statements over the catalogue: row security, policies, keys, rights, partitions, views.

Each finds rows of (object, what is wrong). What is allowed stands in short lists: a new table or function is
closed to bots until it is named here.
"""

from __future__ import annotations

OPEN_TABLES = frozenset(
    {
        *("attempts", "audit_log", "bot_runs", "bots", "chat_states", "completions"),
        *("conversations", "inbox", "jobs", "kept_data", "messages", "once_keys", "outbox"),
        *("requests", "sends", "users"),
    }
)
"""Tables that bots have a right on."""

OPEN_FUNCTIONS = frozenset({"botctl_bot_id()", "botctl_end_my_others()"})
"""Functions of ours that bots may execute."""

TABLE_RULES = {
    "row security": """
        SELECT c.oid::regclass::text, CASE
                   WHEN NOT c.relrowsecurity THEN 'row level security is not enabled'
                   WHEN NOT c.relforcerowsecurity THEN 'row level security is not forced on its owner' END
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'botctl_internal') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND c.oid IS DISTINCT FROM to_regclass('public.alembic_version')
          AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
        UNION ALL
        SELECT c.oid::regclass::text, 'its first column is not bot_id bigint NOT NULL'
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'botctl_internal') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND c.oid IS DISTINCT FROM to_regclass('public.alembic_version')
          AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = 1 AND a.attnotnull
                          AND a.attname = 'bot_id' AND a.atttypid = 'bigint'::regtype)
    """,
    "policies": """
        SELECT p.polrelid::regclass || ', policy ' || p.polname, 'lets bots through by something else than their login'
        FROM pg_policy p
        WHERE p.polpermissive
          AND EXISTS (SELECT FROM unnest(p.polroles) role WHERE role = 0 OR role NOT IN (
                          SELECT oid FROM pg_roles WHERE rolname IN ('botctl_control', 'botctl_owner')))
          AND (coalesce(pg_get_expr(p.polqual, p.polrelid), '(bot_id = botctl_bot_id())')
                   = '(bot_id = botctl_bot_id())'
               AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '(bot_id = botctl_bot_id())')
                   IN ('(bot_id = botctl_bot_id())', '((bot_id IS NULL) OR (bot_id = botctl_bot_id()))')
               AND (p.polqual IS NOT NULL OR p.polwithcheck IS NOT NULL)) IS NOT TRUE
        UNION ALL
        SELECT p.polrelid::regclass || ', policy ' || p.polname, 'names a role of bots, who can DROP OWNED BY it'
        FROM pg_policy p JOIN pg_roles role ON role.oid = ANY (p.polroles)
        WHERE role.rolname NOT IN ('botctl_control', 'botctl_owner')
        UNION ALL
        SELECT p.polrelid::regclass || ', policy ' || p.polname,
               CASE WHEN p.polpermissive THEN 'is none of botctl''s, or was changed'
                    ELSE 'is none of botctl''s: it hides rows from whoever it names' END
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'botctl_internal') AND (
            p.polpermissive AND p.polcmd = '*' AND NOT c.relispartition AND CASE p.polname
                WHEN 'tenant' THEN p.polroles = ARRAY[0::oid]
                    AND pg_get_expr(p.polqual, p.polrelid) = '(bot_id = botctl_bot_id())'
                    AND pg_get_expr(p.polwithcheck, p.polrelid)
                        = '((bot_id IS NULL) OR (bot_id = botctl_bot_id()))'
                ELSE p.polname IN ('control', 'owner')
                    AND p.polroles = ARRAY[('botctl_' || p.polname)::regrole::oid]
                    AND pg_get_expr(p.polqual, p.polrelid) = 'true'
                    AND pg_get_expr(p.polwithcheck, p.polrelid) = 'true' END) IS NOT TRUE
        UNION ALL
        SELECT c.oid::regclass::text, 'no policy for ' || coalesce(role.rolname, 'PUBLIC')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
             unnest(ARRAY[0, 'botctl_owner'::regrole, 'botctl_control'::regrole]) wanted
        LEFT JOIN pg_roles role ON role.oid = wanted
        WHERE n.nspname IN ('public', 'botctl_internal') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND c.oid IS DISTINCT FROM to_regclass('public.alembic_version') AND (wanted <> 0 OR c.relname = ANY ($1))
          AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive
                          AND p.polcmd = '*' AND wanted = ANY (p.polroles))
        UNION ALL
        SELECT 'botctl_bot_id()', 'does not tell the bot by session_user alone'
        FROM (SELECT to_regprocedure('public.botctl_bot_id()') AS oid) f
        WHERE coalesce(pg_get_function_sqlbody(f.oid), '') !~ 'SESSION_USER'
           OR pg_get_function_sqlbody(f.oid) ~* 'current_setting|current_user|current_role|select'
    """,
    "keys": """
        SELECT i.indexrelid::regclass || ' on ' || i.indrelid::regclass, 'is unique and does not lead with bot_id'
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE n.nspname IN ('public', 'botctl_internal')
          AND c.oid IS DISTINCT FROM to_regclass('public.alembic_version')
          AND (i.indisunique OR i.indisexclusion) AND a.attname IS DISTINCT FROM 'bot_id'
        UNION ALL
        SELECT k.conrelid::regclass || ', ' || k.conname, 'refers to a row by something else than bot_id first'
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
        LEFT JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
        WHERE n.nspname IN ('public', 'botctl_internal') AND k.contype = 'f'
          AND (a.attname IS DISTINCT FROM 'bot_id' OR b.attname IS DISTINCT FROM 'bot_id')
    """,
    "rights on tables": """
        SELECT c.oid::regclass::text, privilege || ' for ' || coalesce(role.rolname, 'PUBLIC')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (
            SELECT grantee, privilege_type AS privilege, is_grantable, false AS of_column, '' AS attname
            FROM aclexplode(c.relacl)
            UNION ALL
            SELECT e.grantee, e.privilege_type, e.is_grantable, true, a.attname
            FROM pg_attribute a, aclexplode(a.attacl) e WHERE a.attrelid = c.oid AND NOT a.attisdropped
        ) held
        LEFT JOIN pg_roles role ON role.oid = held.grantee
        WHERE n.nspname IN ('public', 'botctl_internal', 'botctl_admin') AND held.grantee <> c.relowner
          AND NOT c.relispartition AND c.relkind NOT IN ('S', 'i', 'I')
          AND (
              is_grantable OR coalesce(role.rolname, '') NOT IN ('bots', 'bots_ro', 'botctl_control')
              OR n.nspname <> 'public'
              OR privilege NOT IN ('SELECT', 'INSERT', 'UPDATE')
              OR (privilege = 'UPDATE' AND (NOT of_column OR attname = 'bot_id'))
              OR (role.rolname = 'bots_ro' AND privilege <> 'SELECT')
              OR (role.rolname <> 'botctl_control' AND c.relname <> ALL ($1))
          )
    """,
    "partitions": """
        SELECT c.oid::regclass::text, 'somebody but its owner has a right on it'
        FROM pg_class c WHERE c.relispartition AND c.relkind IN ('r', 'p') AND (
            EXISTS (SELECT FROM aclexplode(c.relacl) WHERE grantee <> c.relowner)
            OR EXISTS (SELECT FROM pg_attribute a, aclexplode(a.attacl) WHERE a.attrelid = c.oid))
        UNION ALL
        SELECT c.oid::regclass::text, 'is not in botctl_internal'
        FROM pg_class c WHERE c.relispartition AND c.relkind IN ('r', 'p')
          AND c.relnamespace IS DISTINCT FROM to_regnamespace('botctl_internal')
        UNION ALL
        SELECT c.oid::regclass::text, 'forces row security on its owner: pg_dump fails'
        FROM pg_class c WHERE c.relispartition AND c.relforcerowsecurity
    """,
    "views": """
        SELECT c.oid::regclass::text, CASE c.relkind
                   WHEN 'v' THEN 'the view reads with its owner''s rights: it is not security_invoker'
                   WHEN 'm' THEN 'a materialized view has no row security'
                   ELSE 'a foreign table has no row security' END
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'botctl_internal', 'botctl_admin')
          AND (c.relkind IN ('m', 'f') OR c.relkind = 'v' AND NOT EXISTS (
              SELECT FROM pg_options_to_table(c.reloptions)
              WHERE option_name = 'security_invoker' AND option_value::boolean))
    """,
    "statistics": """
        SELECT c.oid::regclass || '.' || a.attname, 'has statistics: EXPLAIN tells bots of rows of others'
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
        LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
        WHERE n.nspname IN ('public', 'botctl_internal') AND c.relkind IN ('r', 'p') AND a.attnum > 0
          AND NOT a.attisdropped AND coalesce(a.attstattarget, -1) <> 0
          AND a.attname NOT IN ('bot_id', 'conversation_id', 'message_id', 'inbox_id', 'seq', 'run_id', 'state')
          AND coalesce(i.inhparent, c.oid) <> ALL (ARRAY[to_regclass('public.alembic_version')::oid,
                                                         to_regclass('public.audit_log')::oid])
    """,
}
