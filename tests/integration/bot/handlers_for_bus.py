"""Handlers of the bots that ask each other, share work, and do things once."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import msgspec
from telegram import Update
from telegram.ext import Application, MessageHandler, filters

from botctl.bot import BotContext, Event
from botctl.errors import RequestRefusedError, RequestTimeoutError

App = Application[Any, Any, Any, Any, Any, Any]


def _on_text(app: App, handler: Any) -> None:
    async def on_text(update: Update, context: Any) -> None:
        assert update.message is not None
        await handler(update.message, str(update.message.text))

    app.add_handler(MessageHandler(filters.TEXT, on_text))


def customer(app: App, bot: BotContext) -> None:
    """`ITEM [SECONDS]`: asks what it costs, and tells. `hang …`: then never ends. `raise …`: lets errors through."""

    async def ask(message: Any, text: str) -> None:
        words = text.split()
        mode = words.pop(0) if words[0] in ("hang", "raise", "twice") else ""
        timeout = float(words[1]) if len(words) > 1 else 8.0
        try:
            if mode == "twice":
                both = await asyncio.gather(*(bot.request("shop", "price.quote", {"item": words[0]}) for _ in range(2)))
                await message.reply_text(f"{words[0]}: {both[0]['price']} and {both[1]['price']}")
                return
            answer = await bot.request("shop", "price.quote", {"item": words[0]}, timeout=timeout)
        except RequestTimeoutError:
            if mode == "raise":
                raise
            await message.reply_text(f"{words[0]}: no answer")
            return
        except RequestRefusedError as error:
            await message.reply_text(f"{words[0]}: {error.why}: {error}")
            return
        if mode == "hang":
            await asyncio.Event().wait()
        await message.reply_text(f"{words[0]}: {answer['price']}")

    _on_text(app, ask)

    @bot.on_request("name.*")
    async def name(event: Event) -> dict[str, Any]:
        depth = event.data.get("depth", 0)
        if depth:
            return await bot.request(event.source_name or "", "price.deep", {"depth": depth - 1})
        return {"name": "Ada"}


def shop(app: App, bot: BotContext) -> None:
    @bot.on_request("price.quote")
    async def quote(event: Event) -> dict[str, Any]:
        await bot.publish("quote.made", {"item": event.data["item"]})
        if event.data["item"] == "trouble":
            raise ValueError("no such thing")
        if event.data["item"] == "who":
            return {"price": (await bot.request(event.source_name or "", "name.ask"))["name"]}
        if event.data["item"] == "deep":
            return {"price": (await bot.request(event.source_name or "", "name.ask", {"depth": 2}))["name"]}
        if event.data["item"] == "die":
            async with bot.engine.connect() as connection:
                attempts = (await connection.exec_driver_sql("SELECT max(attempts) FROM inbox")).scalar_one()
            if attempts < 2:
                os.kill(os.getpid(), signal.SIGKILL)
        return {"price": len(event.data["item"])}

    @bot.on_request("price.deep")
    async def deep(event: Event) -> dict[str, Any]:
        return await bot.request(event.source_name or "", "name.ask", {"depth": event.data["depth"]})


def once(app: App, bot: BotContext, hangs: bool = True) -> None:
    """Says whether it was the first with the key that it was told. `fail …`: and raises at its first attempt."""
    failed: set[str] = set()

    async def take(message: Any, text: str) -> None:
        mode, _, key = text.rpartition(" ")
        first = await bot.once(key)
        await message.reply_text(f"{key}: {first}")
        if mode == "fail" and text not in failed:
            failed.add(text)
            raise RuntimeError("the first attempt fails")
        if mode == "hang" and hangs:
            await asyncio.Event().wait()
        if mode == "slow":
            await asyncio.sleep(0.3)

    _on_text(app, take)


def once_that_goes_on(app: App, bot: BotContext) -> None:
    once(app, bot, hangs=False)


def member(app: App, bot: BotContext) -> None:
    @bot.on_event("ticket.*")
    async def handle(event: Event) -> None:
        await app.bot.send_message(100, f"ticket {event.data['n']}")


class Order(msgspec.Struct):
    item: str
    pieces: int


def declaring(app: App, bot: BotContext) -> None:
    bot.declare("order.placed", version=2, schema=Order, upcast={1: lambda data: {"item": data["what"], "pieces": 1}})

    @bot.on_event("order.placed")
    async def placed(event: Event) -> None:
        await app.bot.send_message(100, f"{event.data['pieces']} {event.data['item']} ({event.version})")

    async def order(message: Any, text: str) -> None:
        await bot.publish("order.placed", Order(text, 2) if text != "wrong" else {"item": 5})

    _on_text(app, order)


def customer_in_a_hurry(app: App, bot: BotContext) -> None:
    """What `customer` becomes with the next release: it hangs no more."""

    async def ask(message: Any, text: str) -> None:
        item = text.removeprefix("hang ")
        answer = await bot.request("shop", "price.quote", {"item": item}, timeout=1.0)
        await message.reply_text(f"{item}: {answer['price']}")

    _on_text(app, ask)
