"""python-telegram-bot's own timers: what they send belongs to no update, even when set or begun inside of one."""

from __future__ import annotations

import asyncio
import io
from typing import Any, cast

from telegram import InputFile, InputMediaDocument

from botctl.bot.handling.scope import Scope, active, current
from botctl.bot.sending.bot_api import OutsideJobQueue, moved, read_files


class Timer:
    def __init__(self) -> None:
        self.scope: Scope | None = Scope("unset", "")

    async def run(self, application: Any) -> None:
        self.scope = active()


class Queue:
    application = None


async def test_a_timer_runs_outside_of_the_handling_it_was_begun_in() -> None:
    timer, scope = Timer(), Scope("update:1", "t")
    current.set(scope)
    await asyncio.create_task(OutsideJobQueue.job_callback(cast("Any", Queue()), timer))
    assert timer.scope is None
    assert active() is scope
    assert Scope.operation().cause.startswith("op:")
    assert Scope.operation().cause != Scope.operation().cause


def test_a_moved_call_leaves_out_the_message_it_replies_to() -> None:
    data = {"chat_id": -5, "text": "x", "reply_parameters": {"message_id": 1}}
    assert moved(data, -1005) == {"chat_id": -1005, "text": "x"}
    assert data["chat_id"] == -5


def test_open_files_are_read_so_that_a_call_can_be_made_again() -> None:
    one = InputFile(io.BytesIO(b"one"), read_file_handle=False)
    two = InputFile(io.BytesIO(b"two"), read_file_handle=False, attach=True)
    album = InputMediaDocument(media=b"")
    album._unfreeze()
    album.media = two
    read_files({"document": one, "media": [album]})
    for _ in range(2):
        assert one.field_tuple[1] == b"one"
        assert two.field_tuple[1] == b"two"
