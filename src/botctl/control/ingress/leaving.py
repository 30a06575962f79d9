"""Takes the webhook of a bot that has left the fleet away from Telegram; what waits there stays there, for a day.

Nobody else could: the bot's process ends without knowing why, and Telegram would knock for 24 hours.
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import aiohttp
import structlog

from botctl.control.watching.hearing import tls
from botctl.fleet import BotSpec

_log = structlog.get_logger("botctl.control.ingress")

TIMEOUT = 15.0


async def take_away(bot: BotSpec, base_url: str, *, timeout: float = TIMEOUT) -> bool:
    """Whether Telegram has done it. Never raises; never shows the token."""
    url = f"{base_url.rstrip('/')}/bot{quote(bot.token.get_secret_value(), safe=':')}/deleteWebhook"
    connector = aiohttp.TCPConnector(ssl=tls() if url.startswith("https:") else True)
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(timeout)
            ) as session,
            session.post(
                url, data={"drop_pending_updates": "false"}, proxy=bot.proxy, allow_redirects=False
            ) as response,
        ):
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        _log.warning(
            "the webhook of a bot that has left can't be taken away",
            bot=bot.name,
            reason=f"{type(error).__name__} ({urlsplit(base_url).hostname})",
        )
        return False
    _log.info("the webhook of a bot that has left is taken away", bot=bot.name, status=status)
    return status == 200
