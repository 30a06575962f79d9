"""Methods that hand out files."""

from __future__ import annotations

from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

DOWNLOAD_LIMIT = 20 * 1024 * 1024


@method("getFile")
def get_file(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Where to download a file: `/file/bot<token>/<file_path>`."""
    file_id = parameters.text("file_id")
    if not file_id:
        raise bad_request("file_id not specified")
    stored = bot.files.by_id(file_id)
    if stored is None:
        raise bad_request("wrong file_id or the file is temporarily unavailable")
    if len(stored.content) > DOWNLOAD_LIMIT:
        raise bad_request("file is too big")
    return stored.as_file()
