"""Methods about the bot itself: who it is, its commands, ending its run on a server."""

from __future__ import annotations

import json
import re
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.methods.registry import Function, method
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

COMMANDS_LIMIT = 100


@method("getMe")
def get_me(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """The bot's account."""
    return bot.me


@method("setMyCommands")
def set_my_commands(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Replace the commands of a scope and language."""
    raw = parameters.structure("commands", "commands")
    if not isinstance(raw, list):
        raise bad_request("can't parse commands: expected an Array of BotCommand")
    commands = []
    for item in raw:
        if not isinstance(item, dict):
            raise bad_request("can't parse BotCommand: expected an Object")
        command, description = str(item.get("command", "")).removeprefix("/"), str(item.get("description", ""))
        if not re.fullmatch(r"[a-z0-9_]{1,32}", command):
            raise bad_request("BOT_COMMAND_INVALID")
        if not 1 <= len(description) <= 256:
            raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
        commands.append({"command": command, "description": description})
    if len(commands) > COMMANDS_LIMIT:
        raise bad_request("BOT_COMMANDS_TOO_MUCH")
    bot.commands[_scope(parameters)] = commands
    bot.record("commands", commands=commands)
    return True


@method("getMyCommands")
def get_my_commands(world: World, bot: Bot, parameters: Parameters) -> list[dict[str, Any]]:
    """The commands of a scope and language."""
    return bot.commands.get(_scope(parameters), [])


@method("deleteMyCommands")
def delete_my_commands(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Drop the commands of a scope and language."""
    bot.commands.pop(_scope(parameters), None)
    return True


_TEXTS = {"Name": ("name", 64), "Description": ("description", 512), "ShortDescription": ("short_description", 120)}


def _setter(field: str, limit: int) -> Function:
    def set_text(world: World, bot: Bot, parameters: Parameters) -> bool:
        text = parameters.text(field)
        if len(text) > limit:
            raise bad_request(f"{field.replace('_', ' ')} is too long")
        bot.texts[(field, parameters.text("language_code"))] = text
        return True

    return set_text


def _getter(field: str) -> Function:
    def get_text(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
        default = bot.first_name if field == "name" else ""
        found = bot.texts.get((field, parameters.text("language_code"))) or bot.texts.get((field, ""))
        return {field: found or default}

    return get_text


for _name, (_field, _limit) in _TEXTS.items():
    method(f"setMy{_name}")(_setter(_field, _limit))
    method(f"getMy{_name}")(_getter(_field))


@method("logOut")
def log_out(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Nothing to do here: it moves a bot from the cloud to a server of one's own."""
    return True


@method("close")
def close(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Nothing to do here: it asks a server to prepare for the bot's move to another one."""
    return True


def _scope(parameters: Parameters) -> str:
    scope = parameters.structure("scope", "BotCommandScope")
    if scope is None:
        scope = {"type": "default"}
    if not isinstance(scope, dict) or not isinstance(scope.get("type"), str):
        raise bad_request("can't parse BotCommandScope: expected an Object")
    return json.dumps([scope, parameters.text("language_code")], sort_keys=True)
