"""Database URLs, as operators write them, to logins and back. Pure: never opens a connection."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlsplit

from botctl.errors import UsageError
from botctl.handover import DatabaseLogin, DatabaseTarget

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
_HINT = "Write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with ?sslmode=… where needed."


def parse_database_url(url: str) -> DatabaseLogin:
    """The login in `url`. Raises UsageError, which never repeats the URL: it holds a password."""
    if "#" in url:
        raise UsageError("the database URL has a '#'; inside a password write it as %23", hint=_HINT)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its own message may hold a part of the password
        raise UsageError("the database URL's host or port is not valid", hint=_HINT) from None
    if parts.scheme not in _SCHEMES:
        raise UsageError(f"the database URL has scheme {parts.scheme!r}, not postgresql", hint=_HINT)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    sslmode = options.pop("sslmode", None) or options.pop("ssl", None) or "prefer"
    host = options.pop("host", None) or unquote(parts.hostname or "") or "127.0.0.1"
    port_option = options.pop("port", "")
    for ignored in ("application_name", "connect_timeout"):
        options.pop(ignored, None)
    if options:
        unknown = ", ".join(sorted(options))
        raise UsageError(f"the database URL has an option botctl does not know: {unknown}", hint=_HINT)
    if sslmode not in SSL_MODES:
        raise UsageError(f"sslmode is {sslmode!r}, not one of {', '.join(SSL_MODES)}", hint=_HINT)
    if port_option:
        if not port_option.isdecimal():
            raise UsageError(f"the database URL's port is {port_option!r}, not a number", hint=_HINT)
        port = int(port_option)
    if not parts.username:
        raise UsageError("the database URL names no user", hint=_HINT)
    return DatabaseLogin(
        target=DatabaseTarget(
            host=host, port=port or 5432, database=unquote(parts.path.removeprefix("/")) or "botctl", sslmode=sslmode
        ),
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
    )


def format_database_url(login: DatabaseLogin) -> str:
    """The URL of `login`, as psql understands it; it holds the password."""
    target = login.target
    userinfo = quote(login.user, safe="") + (f":{quote(login.password, safe='')}" if login.password else "")
    database = quote(target.database, safe="")
    if target.host.startswith("/"):
        place = f"/{database}?host={quote(target.host, safe='')}&port={target.port}&sslmode={target.sslmode}"
    else:
        host = f"[{target.host}]" if ":" in target.host else target.host
        place = f"{host}:{target.port}/{database}?sslmode={target.sslmode}"
    return f"postgresql://{userinfo}@{place}"
