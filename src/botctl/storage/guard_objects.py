"""Rules about all that is no table, as statements over the catalogue: functions, sequences, schemas, owners, roles.

Each finds rows of (object, what is wrong).
"""

from __future__ import annotations

OBJECT_RULES = {
    "functions": """
        SELECT f.oid::regprocedure::text, 'has its owner''s rights, and its search_path is not pg_catalog, pg_temp'
        FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
        WHERE n.nspname IN ('public', 'botctl_internal', 'botctl_admin') AND f.prosecdef
          AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (f.proconfig), false)
        UNION ALL
        SELECT f.oid::regprocedure::text, 'may be executed by ' || coalesce(role.rolname, 'PUBLIC')
        FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
        CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) held
        LEFT JOIN pg_roles role ON role.oid = held.grantee
        WHERE n.nspname IN ('public', 'botctl_internal', 'botctl_admin') AND held.grantee <> f.proowner
          AND (f.prosecdef OR f.oid::regprocedure::text <> ALL ($1))
          AND coalesce(role.rolname, '') <> 'botctl_control'
          AND NOT (n.nspname = 'botctl_internal' AND held.grantee = (
              SELECT nspowner FROM pg_namespace WHERE nspname = 'botctl_admin'))
        UNION ALL
        SELECT f.oid::regprocedure::text, 'is written in ' || l.lanname
        FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
        WHERE n.nspname IN ('public', 'botctl_internal', 'botctl_admin') AND l.lanname NOT IN ('sql', 'plpgsql')
        UNION ALL
        SELECT f.oid::regprocedure::text, 'says that it leaks nothing: row security runs it on rows of others'
        FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
        WHERE n.nspname IN ('public', 'botctl_internal', 'botctl_admin') AND f.proleakproof
    """,
    "functions of the server": """
        SELECT f.oid::regprocedure::text, 'may be executed by bots'
        FROM pg_proc f
        WHERE f.pronamespace = 'pg_catalog'::regnamespace AND has_function_privilege('bots', f.oid, 'EXECUTE')
          AND (f.proname ~ '^pg_(try_)?advisory_(?!unlock_all$)' OR f.proname ~ '^lo_'
               OR f.proname IN ('loread', 'lowrite', 'pg_logical_emit_message'))
        UNION ALL
        SELECT 'language plpgsql', 'may be used by bots: a refusal that a block catches is in no log'
        FROM pg_language WHERE lanname = 'plpgsql' AND has_language_privilege('bots', oid, 'USAGE')
    """,
    "functions that read or write files": """
        SELECT f.oid::regprocedure::text, 'may be executed by ' || role.rolname
        FROM pg_proc f, pg_roles role
        WHERE f.pronamespace = 'pg_catalog'::regnamespace AND role.rolname IN ('bots', 'bots_ro', 'botctl_control')
          AND (f.proname ~ '^pg_(read|ls)_.*(file|dir)[a-z]*$|^pg_stat_file$' OR f.proname IN (
              'pg_reload_conf', 'pg_switch_wal', 'pg_create_restore_point', 'pg_promote', 'pg_rotate_logfile',
              'pg_stat_reset', 'pg_backup_start', 'lo_import', 'lo_export', 'pg_log_backend_memory_contexts'))
          AND has_function_privilege(role.oid, f.oid, 'EXECUTE')
    """,
    "sequences and types": """
        SELECT c.oid::regclass::text, 'somebody but its owner has a right on it'
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'botctl_internal', 'botctl_admin') AND c.relkind = 'S'
          AND EXISTS (SELECT FROM aclexplode(c.relacl) WHERE grantee <> c.relowner)
        UNION ALL
        SELECT t.oid::regtype::text, 'belongs to ' || t.typowner::regrole
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE n.nspname IN ('public', 'botctl_internal') AND t.typtype <> 'c' AND t.typelem = 0
          AND t.typowner <> 'botctl_owner'::regrole AND t.typtype <> 'p'
    """,
    "schemas": """
        SELECT n.nspname::text, held.privilege_type || ' for ' || coalesce(role.rolname, 'PUBLIC')
        FROM pg_namespace n CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) held
        LEFT JOIN pg_roles role ON role.oid = held.grantee
        WHERE n.nspname IN ('public', 'botctl_internal', 'botctl_admin') AND held.grantee <> n.nspowner
          AND (held.is_grantable
               OR held.privilege_type = 'CREATE' AND coalesce(role.rolname, '') <> 'botctl_owner'
               OR n.nspname <> 'public' AND coalesce(role.rolname, '') <> 'botctl_control'
                  AND held.grantee <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'botctl_admin'))
        UNION ALL
        SELECT n.nspname::text, 'is no schema of botctl, and bots may use it'
        FROM pg_namespace n
        WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')
          AND (has_schema_privilege('bots', n.oid, 'USAGE') OR has_schema_privilege('bots_ro', n.oid, 'USAGE'))
        UNION ALL
        SELECT 'database ' || current_database(), privilege || ' for ' || role
        FROM unnest(ARRAY['bots', 'bots_ro', 'botctl_control']) role, unnest(ARRAY['CREATE', 'TEMPORARY']) privilege
        WHERE has_database_privilege(role, current_database(), privilege)
    """,
    "default rights": """
        SELECT coalesce(d.defaclnamespace::regnamespace::text, 'every schema'),
               'what ' || d.defaclrole::regrole || ' makes there has other rights than usual'
        FROM pg_default_acl d
        WHERE d.defaclrole IN (SELECT nspowner FROM pg_namespace WHERE nspname IN ('botctl_internal', 'botctl_admin'))
           OR EXISTS (SELECT FROM aclexplode(d.defaclacl) WHERE grantee = 0 OR grantee IN (
                  SELECT oid FROM pg_roles WHERE rolname IN ('bots', 'bots_ro', 'botctl_control')))
    """,
    "owners": """
        SELECT c.oid::regclass::text, 'belongs to ' || c.relowner::regrole || ', not to ' || wanted.owner::regrole
        FROM pg_class c JOIN (
            SELECT oid, CASE nspname WHEN 'botctl_admin' THEN nspowner ELSE 'botctl_owner'::regrole::oid END AS owner
            FROM pg_namespace WHERE nspname IN ('public', 'botctl_internal', 'botctl_admin')
        ) wanted ON wanted.oid = c.relnamespace
        WHERE c.relowner <> wanted.owner AND NOT (
            c.relname IN ('alembic_version', 'alembic_version_pkc')
            AND c.relowner = (SELECT nspowner FROM pg_namespace WHERE nspname = 'botctl_admin'))
        UNION ALL
        SELECT f.oid::regprocedure::text, 'belongs to ' || f.proowner::regrole || ', not to ' || wanted.owner::regrole
        FROM pg_proc f JOIN (
            SELECT oid, CASE nspname WHEN 'botctl_admin' THEN nspowner ELSE 'botctl_owner'::regrole::oid END AS owner
            FROM pg_namespace WHERE nspname IN ('public', 'botctl_internal', 'botctl_admin')
        ) wanted ON wanted.oid = f.pronamespace
        WHERE f.proowner <> wanted.owner
        UNION ALL
        SELECT n.nspname::text, 'belongs to ' || n.nspowner::regrole
        FROM pg_namespace n JOIN pg_database d ON d.datname = current_database()
        WHERE n.nspname = 'botctl_internal' AND n.nspowner <> 'botctl_owner'::regrole
           OR n.nspname IN ('public', 'botctl_admin') AND n.nspowner IN (
                  SELECT oid FROM pg_roles WHERE rolname ~ '^(bots|bots_ro|botctl_.*|bot_[0-9].*)$')
        UNION ALL
        SELECT pg_describe_object(classid, objid, objsubid), 'belongs to ' || refobjid::regrole
        FROM pg_shdepend
        WHERE deptype = 'o' AND refclassid = 'pg_authid'::regclass
          AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
          AND refobjid IN (SELECT oid FROM pg_roles WHERE rolname ~ '^(bots|bots_ro|botctl_control.*|bot_[0-9].*)$')
    """,
    "roles": """
        SELECT r.rolname::text, 'has an attribute that goes round the rules: superuser, bypassrls, createrole, …'
        FROM pg_roles r WHERE r.rolname ~ '^(bots|bots_ro|botctl_.*|bot_[0-9].*)$'
          AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication)
        UNION ALL
        SELECT r.rolname::text, 'is a member of ' || m.roleid::regrole
               || CASE WHEN m.admin_option THEN ' and may grant it' ELSE '' END
        FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
        WHERE r.rolname ~ '^(bots|bots_ro|botctl_.*|bot_[0-9].*)$'
          AND (m.admin_option OR m.roleid::regrole::text <> CASE
            WHEN r.rolname ~ '^bot_[0-9]+$' THEN 'bots' WHEN r.rolname ~ '^bot_[0-9]+_ro_[0-9a-f]+$' THEN 'bots_ro'
            WHEN r.rolname ~ '^botctl_control_[0-9a-f]+$' THEN 'botctl_control' ELSE '' END)
        UNION ALL
        SELECT parname, 'may be set by others than a superuser' FROM pg_parameter_acl
        WHERE EXISTS (SELECT FROM aclexplode(paracl) held LEFT JOIN pg_roles r ON r.oid = held.grantee
                      WHERE held.grantee = 0 OR r.rolname ~ '^(bots|bots_ro|botctl_.*|bot_[0-9].*)$')
    """,
    "audit triggers": """
        SELECT wanted.name, 'has no enabled trigger ' || wanted.trigger
        FROM (SELECT name, 'audit_' || what AS trigger
              FROM unnest(ARRAY['bots', 'bot_credentials', 'bot_keys', 'bot_secrets']) name,
                   unnest(ARRAY['insert', 'update', 'delete', 'truncate']) what) wanted
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger t
            WHERE t.tgrelid = to_regclass('public.' || wanted.name) AND t.tgname = wanted.trigger
              AND t.tgenabled IN ('O', 'A') AND t.tgfoid::regproc::text = 'botctl_internal.audit_change')
        UNION ALL
        SELECT wanted.name, 'has no trigger canary'
        FROM unnest(ARRAY['users', 'completions']) wanted (name)
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass('public.' || wanted.name) AND t.tgname = 'canary'
              AND t.tgfoid::regproc::text = 'botctl_internal.canary_touched')
        UNION ALL
        SELECT t.tgrelid::regclass || ', trigger ' || t.tgname, CASE t.tgenabled WHEN 'D' THEN 'is disabled'
                   ELSE 'is passed by when session_replication_role is set: it is not ENABLE ALWAYS' END
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'botctl_internal') AND NOT t.tgisinternal AND t.tgenabled <> 'A'
        UNION ALL
        SELECT t.tgrelid::regclass || ', trigger ' || t.tgname, 'is none of botctl''s'
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'botctl_internal') AND NOT t.tgisinternal
          AND t.tgfoid::regproc::text NOT IN ('botctl_internal.audit_change', 'botctl_internal.canary_touched')
    """,
    "extensions and rules": """
        SELECT 'extension ' || extname, 'botctl needs none; what it gives to PUBLIC, bots have' FROM pg_extension
        WHERE extname <> 'plpgsql'
        UNION ALL
        SELECT r.ev_class::regclass || ', rule ' || r.rulename, 'a rule runs with the rights of the table''s owner'
        FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'botctl_internal', 'botctl_admin') AND r.rulename <> '_RETURN'
        UNION ALL
        SELECT 'event trigger ' || evtname, 'is none of botctl''s' FROM pg_event_trigger
        UNION ALL
        SELECT 'foreign server ' || srvname, 'bots may use it' FROM pg_foreign_server
        WHERE has_server_privilege('bots', oid, 'USAGE')
        UNION ALL
        SELECT 'language ' || lanname, 'is not trusted' FROM pg_language
        WHERE NOT lanpltrusted AND lanname NOT IN ('internal', 'c')
    """,
}
