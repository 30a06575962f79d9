"""The bot that benchmarks hand to other supervisors: `peer_bot.py BASE_URL TOKEN`.

Imports the libraries that a bot of ours imports (`botctl.bot.preload`), nothing of botctl itself, and polls getUpdates
the same way: the first call with timeout 0, then long polls.
It connects to no database and no Redis, so that it is ready sooner than an ordinary bot could be: the comparison
favours the peers.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import anyio._backends._asyncio  # noqa: F401
import asyncpg  # noqa: F401
import httpcore2  # noqa: F401
import httpx2  # noqa: F401
import openai  # noqa: F401
import pydantic  # noqa: F401
import redis.asyncio  # noqa: F401
import sqlalchemy.ext.asyncio  # noqa: F401
import structlog  # noqa: F401
import telegram.ext  # noqa: F401
import telegramify_markdown.converter  # noqa: F401
from openai.resources import chat as _chat  # noqa: F401
from openai.resources import responses as _responses  # noqa: F401


async def poll(url: str) -> None:
    """Ask for updates and acknowledge them, for ever."""
    wait, offset = 0, None
    async with aiohttp.ClientSession() as session:
        while True:
            data = {"timeout": str(wait), "limit": "100"} | ({} if offset is None else {"offset": str(offset)})
            async with session.post(f"{url}/getUpdates", data=data) as response:
                answer = await response.json()
            found = answer["result"]
            offset = found[-1]["update_id"] + 1 if found else None
            wait = 25


if __name__ == "__main__":
    asyncio.run(poll(f"{sys.argv[1].rstrip('/')}/bot{sys.argv[2]}"))
