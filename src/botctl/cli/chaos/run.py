"""The course of a chaos run: calm, the timeline while users write, quiet, the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from botctl.cli.chaos.harm import Harm
from botctl.cli.chaos.report import Report, fill
from botctl.cli.chaos.scenario import Scenario
from botctl.cli.chaos.stage import Stage
from botctl.cli.chaos.users import Users
from botctl.errors import BotctlError
from botctl.sandbox.client import SandboxClient

SETTLE = 1.0
"""Seconds without any answer after which no more are expected: one too many may come late."""
CONTROL_WAIT = 30.0
_POLL = 0.1


async def run(stage: Stage, scenario: Scenario, name: str, tell: Callable[[str], None]) -> Report:
    """Run a scenario on a stage that has been started. Raises BotctlError when the run itself can't go on."""
    began = time.time()
    bots = {one: stage.bots[one] for one in (scenario.users.bots or stage.bots)}
    about = scenario.users
    users = Users(
        stage.sandbox.telegram,
        bots,
        about.says,
        chats=about.chats,
        rate=about.rate,
        seed=scenario.seed,
    )
    harm = Harm(stage, users, scenario, tell)
    report = Report(name, scenario.seed, len(stage.bots), 0.0, order_matters=scenario.keeps_order)
    try:
        if scenario.limits:
            async with SandboxClient(stage.sandbox.telegram) as sandbox:
                await sandbox.set_limits(**scenario.limits)
        await users.start()
        await asyncio.sleep(scenario.calm)
        calm = (began, time.time())
        timeline = asyncio.create_task(harm.run())
        await asyncio.sleep(scenario.duration)
        await timeline
        await users.stop_writing()
        await harm.settle()
        await _until_quiet(stage, users, scenario.quiet)
    finally:
        await harm.close()
        await users.close()
    fill(report, users.account, calm, [(one.label, one.began, one.ended) for one in harm.done])
    report.problems += [f"{one.label}: {one.failed}" for one in harm.done if one.failed]
    await _ask_control(stage, report)
    report.seconds = time.time() - began
    return report


async def _until_quiet(stage: Stage, users: Users, patience: float) -> None:
    """Until everything is answered and worked off and nothing more comes, or the patience is over."""
    deadline = time.monotonic() + patience
    answers, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        now = sum(len(one.answers) for one in users.account.of())
        if now != answers:
            answers, since = now, time.monotonic()
        if not users.account.waiting() and time.monotonic() - since > SETTLE and await _worked_off(stage):
            return
        await asyncio.sleep(_POLL)


async def _worked_off(stage: Stage) -> bool:
    try:
        bots = (await asyncio.to_thread(stage.status))["bots"]
    except BotctlError:
        return False
    ours = [bot for bot in bots if bot["name"] in stage.bots]
    # A send that is tried again would come after the account is closed.
    return all(not bot["inbox_depth"] for bot in ours) and await stage.open_sends() == 0


async def _ask_control(stage: Stage, report: Report) -> None:
    """Metrics and restarts; `control` may have been killed a moment ago."""

    def ask() -> tuple[dict[int, int], int, dict[str, int], list[dict[str, Any]]]:
        restarts = {name: stage.starts(name) - 1 for name in stage.bots}
        letters = sum(stage.counted("dead_letters").values())
        return stage.counted("sends_uncertain"), letters, restarts, stage.status()["bots"]

    deadline = time.monotonic() + CONTROL_WAIT
    while True:
        try:
            report.uncertain_of, report.dead_letters, report.restarts, bots = await asyncio.to_thread(ask)
            report.uncertain = sum(report.uncertain_of.values())
        except BotctlError as error:
            if time.monotonic() > deadline:
                report.problems.append(f"control does not answer: {error}")
                return
            await asyncio.sleep(_POLL)
            continue
        wrong = [bot for bot in bots if bot["name"] in stage.bots and bot["state"] not in ("running", "degraded")]
        report.problems += [f"{bot['name']} is {bot['state']} at the end: {bot['reason']}" for bot in wrong]
        return
