"""Brings faults about: by a secret message, a signal, a file beside the fleet file, a refusal of Telegram's."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from botctl.cli.chaos.account import Message
from chaos import processes
from chaos.faults import Fault, Way
from chaos.users import Users
from chaos.waiting import until
from chaos.watch import Watch
from support.stack import Stack

Mend = Callable[[], Awaitable[None]]
"""Takes back what lasts; to be called once."""


class Injection:
    """Harms one fleet; `ids` are the bots' ids in the order of their indices."""

    def __init__(self, stack: Stack, watch: Watch, users: Users, ids: list[int]) -> None:
        self._daemon = stack.daemon_pid
        self._stack = stack
        self._watch = watch
        self._users = users
        self._ids = ids

    async def inject(self, fault: Fault, bot: int, name: str, pid: int) -> tuple[Message | None, Mend]:
        """Do it to a bot, whose process is `pid`. Gives the message that did, and how to take back what lasts."""

        async def nothing() -> None:
            return

        if fault.way is Way.INSIDE:
            kind = "exit_7" if fault.name == "poison" else fault.name
            message = await self._users.attack(bot, kind, again=fault.buried)
            if fault.name == "threads_left":
                await until(lambda: _done(bool(message.answers)), "its threads are there")
                await self._watch.post(f"/v1/bots/{name}/restart")
            return message, nothing
        if fault.way is Way.HOPELESS:
            return None, await self._make_hopeless(fault, bot, name, pid)
        if fault.way is Way.SERVICE:
            forkserver = await until(self._forkserver, "there is a forkserver")
            os.kill(forkserver, signal.SIGKILL if fault.name == "forkserver_kill" else signal.SIGSTOP)
            os.kill(pid, signal.SIGKILL)
            return None, lambda: _signal(forkserver, signal.SIGCONT)
        sign = {"kill": signal.SIGKILL, "term": signal.SIGTERM}.get(fault.name, signal.SIGSTOP)
        os.kill(pid, sign)
        return None, (lambda: _signal(pid, signal.SIGCONT)) if fault.name == "stop_and_cont" else nothing

    async def _forkserver(self) -> int:
        return await asyncio.to_thread(processes.forkserver, self._daemon)

    async def _make_hopeless(self, fault: Fault, bot: int, name: str, pid: int) -> Mend:
        if fault.name == "bad_token":
            client = self._stack.sandbox()
            refusal = await client.inject_fault("getUpdates", bot_id=self._ids[bot], status=401, times=None)

            async def accept() -> None:
                await client.clear_faults(refusal)
                await client.close()

            return accept
        file = self._stack.folder / f"{'broken' if fault.name == 'bad_code' else 'crashing'}-{name}"
        await asyncio.to_thread(file.touch)
        os.kill(pid, signal.SIGKILL)

        async def mend() -> None:
            await asyncio.to_thread(file.unlink)

        return mend


async def _signal(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return


async def _done(value: bool) -> bool:
    return value
