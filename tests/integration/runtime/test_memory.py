"""Children that take too much memory: drained at the soft limit, refused at the hard one; told apart from crashes."""

from __future__ import annotations

from integration.runtime.daemons import QUICK

MB = 1_000_000


def test_beyond_the_soft_limit_a_bot_is_drained_and_started_anew(daemon):
    fleet = daemon(fat={"habit": "families.grow", "policy": {**QUICK, "memory_soft": 200.0}})
    stopping = fleet.wait_state("fat", "stopping")
    assert stopping["reason"] == "500 MB of memory, 200 MB allowed"
    death = fleet.wait_death("fat")
    assert (death["failure"], death["exit"]) == ("memory", "exit 0")
    fleet.wait_state("fat", "running", incarnation=2)


def test_at_the_hard_limit_a_bot_gets_no_more_and_its_end_says_so(daemon):
    fleet = daemon(eater={"habit": "families.eat", "policy": QUICK, "limits": {"memory": 300 * MB}})
    death = fleet.wait_death("eater")
    assert (death["failure"], death["exit"]) == ("memory", "exit 1"), death
    assert "MemoryError" in death["cause"]
    assert any("MemoryError" in line for line in death["log_tail"]), death["log_tail"]
    assert 250 < death["memory_mb"] < 330, "300 and what it has inherited"
    fleet.wait_state("eater", "starting", incarnation=2)
