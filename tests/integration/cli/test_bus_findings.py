"""What doctor finds about programs outside."""

from __future__ import annotations

import secrets
import time

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.caretaking.grants import Grant, GrantAdmin
from botctl.bus.client import connect
from botctl.bus.events import Log
from botctl.bus.topology import Topology
from botctl.cli.bus_checks import bus_findings
from botctl.cli.findings import Verdict


async def test_a_program_that_is_far_behind_is_told_of(valkey_admin_url: str) -> None:
    topology = Topology(f"t{secrets.token_hex(4)}")
    redis = connect(valkey_admin_url)
    admin = GrantAdmin(BusAdmin(redis, topology))
    try:
        assert await bus_findings(redis, topology, valkey_admin_url, embedded=True, keep_seconds=86_400) == []
        grant = Grant("crm", (Log.BOT,), f"crm-{secrets.token_hex(16)}", "0" * 64)
        await admin.ensure([grant])
        (one,) = await bus_findings(redis, topology, valkey_admin_url, embedded=True, keep_seconds=86_400)
        assert (one.verdict, one.text.partition(";")[0]) == (Verdict.OK, "crm")
        await redis.xadd(topology.log(Log.BOT), {"e": "x"}, id=f"{int(time.time() * 1000) - 80_000_000}-0")
        _, late = await bus_findings(redis, topology, valkey_admin_url, embedded=True, keep_seconds=86_400)
        assert late.verdict is Verdict.WARN
        assert (
            late.text == "grant:crm has 1 events of the log bot to read, the oldest 0.9 days old; events are kept for 1"
        )
        assert grant.group not in late.text
    finally:
        await admin.drop("crm")
        await redis.delete(topology.log(Log.BOT))
        await redis.aclose()
