"""What the forkserver does once for all bots: import everything, build the one TLS context, warm the code paths.

Opens no socket, starts no thread and reads no secret. The daemon never imports this module.
"""

from __future__ import annotations

import aiohttp  # noqa: F401
import anyio._backends._asyncio  # noqa: F401  (chosen at the first request, not at import)
import asyncpg  # noqa: F401
import httpcore2  # noqa: F401
import httpx2  # noqa: F401
import openai  # noqa: F401
import redis.asyncio  # noqa: F401
import telegram
import telegram.ext
import telegramify_markdown.converter  # noqa: F401
from openai.resources import chat as _chat  # noqa: F401
from openai.resources import responses as _responses  # noqa: F401

from botctl.bot import assembly, process
from botctl.bot.assistant.markdown import render
from botctl.bot.assistant.rehearsal import rehearse
from botctl.bot.receiving.updates import read_batch
from botctl.bot.tls import tls_context


def warm() -> None:
    """Run once through what every bot runs through, so that its pages are shared and its caches are filled."""
    process.warm_settings()
    rehearse(tls_context())
    render("**Hello**, `world`:\n\n- one\n- two\n")
    read_batch(b'{"ok":true,"result":[{"update_id":1,"message":{"chat":{"id":1},"text":"hi"}}]}', str)
    telegram.Update.de_json(
        {
            "update_id": 1,
            "message": {
                "message_id": 1,
                "date": 0,
                "chat": {"id": 1, "type": "private", "first_name": "A"},
                "from": {"id": 1, "is_bot": False, "first_name": "A"},
                "text": "hi",
            },
        },
        None,
    )
    assembly.warm()
