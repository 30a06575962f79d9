"""The concierge's handlers: a command, buttons, a message filter, an event it publishes, and one it reacts to.

The fleet file names `concierge:register` for the concierge and `concierge:register_kitchen` for the
kitchen. Whatever isn't handled here goes to the assistant.
"""

from __future__ import annotations

from typing import Any

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.ext import Application, CallbackQueryHandler, CommandHandler, ContextTypes, MessageHandler, filters

from botctl.bot import BotContext, Event

App = Application[Any, Any, Any, Any, Any, Any]
Context = ContextTypes.DEFAULT_TYPE

MENU = {"soup": "Tomato soup", "curry": "Red curry", "cake": "Lemon cake"}


def register(app: App, bot: BotContext) -> None:
    """The concierge takes orders and tells its guest when the kitchen has cooked."""

    async def menu(update: Update, context: Context) -> None:
        """Show the menu"""
        buttons = [[InlineKeyboardButton(name, callback_data=f"order:{key}")] for key, name in MENU.items()]
        if update.effective_message is not None:
            await update.effective_message.reply_text(
                "What would you like?", reply_markup=InlineKeyboardMarkup(buttons)
            )

    async def ordered(update: Update, context: Context) -> None:
        query = update.callback_query
        if query is None or query.data is None or update.effective_chat is None:
            return
        key = query.data.partition(":")[2]
        await query.answer()
        await query.edit_message_text(f"{MENU[key]} is ordered.")
        # Committed together with the end of this update: no order without its event, no event without its order.
        await bot.publish("concierge.ordered", {"dish": key, "chat_id": update.effective_chat.id})
        bot.log.info("ordered", dish=key)

    async def thanks(update: Update, context: Context) -> None:
        if update.effective_message is not None:
            await update.effective_message.reply_text("You are welcome.")

    @bot.on_event("kitchen.cooked")
    async def cooked(event: Event) -> None:
        dish = MENU.get(event.data["dish"], "Your order")
        await app.bot.send_message(event.data["chat_id"], f"{dish} is ready. Enjoy!")

    app.add_handler(CommandHandler("menu", menu))
    app.add_handler(CallbackQueryHandler(ordered, pattern=r"^order:(soup|curry|cake)$"))
    app.add_handler(MessageHandler(filters.Regex(r"(?i)^(thanks|thank you)\b"), thanks))


def register_kitchen(app: App, bot: BotContext) -> None:
    """The kitchen cooks what the concierge's guests have ordered; nobody needs to talk to it."""

    @bot.on_event("concierge.ordered")
    async def cook(event: Event) -> None:
        bot.log.info("cooking", dish=event.data["dish"])
        await bot.publish("kitchen.cooked", {"dish": event.data["dish"], "chat_id": event.data["chat_id"]})
