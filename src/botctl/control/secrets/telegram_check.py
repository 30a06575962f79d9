"""Asks Telegram whose token it is, before a bot gets it. Never shows the token, whatever goes wrong."""

from __future__ import annotations

import json
from urllib.parse import quote, urlsplit

import aiohttp

from botctl.control.watching.hearing import tls
from botctl.errors import BotctlError, RefusedError

TIMEOUT = 15.0
_LONGEST_ANSWER = 64 * 1024


async def owner_of(token: str, base_url: str, *, proxy: str | None = None, timeout: float = TIMEOUT) -> int:
    """Id of the bot that Telegram knows by this token.

    Raises RefusedError when Telegram refuses it, BotctlError when Telegram can't be asked.
    """
    host = urlsplit(base_url).hostname
    url = f"{base_url.rstrip('/')}/bot{quote(token, safe=':')}/getMe"
    connector = aiohttp.TCPConnector(ssl=tls() if url.startswith("https:") else True)
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(timeout)
            ) as session,
            session.get(url, proxy=proxy, allow_redirects=False) as response,
        ):
            status, body = response.status, await response.content.read(_LONGEST_ANSWER)
            if status == 200:
                return int(json.loads(body)["result"]["id"])
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, LookupError, TypeError) as error:
        # Its text may hold the URL, and the URL holds the token.
        raise BotctlError(
            f"Telegram can't be asked whose token this is: {type(error).__name__} ({host})",
            hint="Nothing was changed. Try again when it answers.",
        ) from None
    if status in (401, 404):
        raise RefusedError(f"Telegram refuses this token (HTTP {status}, {host})", hint="Copy it anew from @BotFather.")
    raise BotctlError(f"Telegram can't be asked whose token this is: HTTP {status} ({host})")
