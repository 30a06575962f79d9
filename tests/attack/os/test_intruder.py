"""From inside a bot's process: every attack ends as its case declares, at each level, and nobody else is harmed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import attack.os.intruder as intruder
from attack.cases import CASES, Level, attack
from attack.os.ground import NOBODY, PATIENT, Place, Setting, StageDaemon, interpreter, place
from botctl.runtime.confinement import landlock
from integration.runtime.daemons import Entry, wait_until

ATTACKER, VICTIM, CONTROL = "intruder", "victim", "control"
NAMES = intruder.NAMES

SETTINGS = [
    Setting("root, an interpreter below a closed folder", Level.UID, "auto", "root", closed=True),
    Setting("root", Level.UID, "auto", "root", closed=False),
    Setting("root, landlock wished", Level.LANDLOCK, "landlock", "root"),
    Setting("an ordinary user", Level.LANDLOCK, "auto", NOBODY),
    Setting("an ordinary user, none wished", Level.NONE, "none", NOBODY),
]


class Fight:
    """One setting: what became of each attack, and how it all ended."""

    def __init__(self, setting: Setting, python: str, ground: Place) -> None:
        self.setting, self.ground = setting, ground
        well = {"habit": "well", "policy": PATIENT}
        limits = {"open_files": 512}
        fleet = {
            ATTACKER: {
                "habit": "intruder.attack",
                "policy": PATIENT,
                "limits": limits,
                "isolation": ground.isolation(setting.wish, 1),
            },
            VICTIM: {**well, "isolation": ground.isolation(setting.wish, 2)},
            CONTROL: well,
        }
        self.stage = StageDaemon(python, setting.account, ground.logs, fleet)

    def fight(self) -> None:
        stage, ground = self.stage, self.ground
        running = dict(zip((ATTACKER, VICTIM, CONTROL), stage.wait_running(ATTACKER, VICTIM, CONTROL), strict=True))
        self.before = self.bots()
        notes = ground.home(2) / "notes"
        notes.write_text("private")
        if os.geteuid() == 0:
            os.chown(notes, notes.parent.stat().st_uid, notes.parent.stat().st_gid)
        notes.chmod(0o600)
        self.fingerprint = ground.fingerprint()
        facts = {
            "supervisor": stage.process.pid,
            "forkserver": next(entry["pid"] for entry in stage.seen if entry["event"] == "forkserver ready"),
            "control": running[CONTROL]["pid"],
            "victim": running[VICTIM]["pid"],
            "data": str(ground.data),
            "folder": str(ground.folder),
            "socket": str(ground.data / "run/api.sock"),
            "abstract": ground.abstract,
            "set_uid": str(ground.set_uid),
            "shared": str(ground.shared),
            "home": str(ground.home(1)),
            "victims_home": str(ground.home(2)),
            "gentle": self.setting.level is Level.NONE,
        }
        self.tell({"ground": facts, "names": NAMES})
        self.wait_for("attacks over")
        lines = re.findall(r"^attack (\{.*\})$", stage.log(ATTACKER), re.M)
        self.ended = {one["name"]: one for one in map(json.loads, lines)}

    def tell(self, settings: dict[str, Any]) -> None:
        self.stage.say(f"tell {ATTACKER} {json.dumps(settings)}")

    def wait_for(self, words: str) -> None:
        log = self.stage.folder / f"{ATTACKER}.log"
        wait_until(lambda: log.exists() and words in log.read_text(), 60)

    def bots(self) -> dict[str, Entry]:
        return {bot["name"]: bot for bot in self.stage.snapshot()["bots"]}

    def close(self) -> None:
        if self.stage.process.poll() is None:
            self.stage.process.kill()
        self.stage.process.wait(10)


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda setting: setting.name)
def fight(request: pytest.FixtureRequest) -> Iterator[Fight]:
    setting: Setting = request.param
    if setting.account.pw_uid != os.geteuid() and os.geteuid() != 0:
        if setting.user == "root":
            pytest.skip("only root can be root")
        setting = Setting(setting.name, setting.level, setting.wish)
    if setting.level is not Level.NONE and landlock.abi() < 6:
        pytest.skip(f"the kernel's Landlock is of ABI {landlock.abi()}; what it must keep it has since 6")
    python = interpreter(setting.account, setting.closed)
    if python is None:
        pytest.skip("no interpreter of this version that this account can run, or that stands where it is to stand")
    with place(setting.account) as ground:
        made = Fight(setting, python, ground)
        try:
            made.fight()
            yield made
        finally:
            made.close()


def test_the_level_is_what_the_machine_allows_and_is_told(fight: Fight) -> None:
    told = {name: bot["isolation"] for name, bot in fight.before.items()}
    assert told == {ATTACKER: fight.setting.level, VICTIM: fight.setting.level, CONTROL: ""}
    uids = {bot["uid"] for bot in fight.before.values()} - {0}
    assert len(uids) == (2 if fight.setting.level is Level.UID else 0)


@pytest.mark.parametrize("name", NAMES)
def test_each_attack_ends_as_declared(fight: Fight, name: str) -> None:
    if name == "have a subprocess dump core" and Path("/proc/sys/kernel/core_pattern").read_text().startswith("|"):
        pytest.skip("the kernel hands cores to a program, whatever the limit says")
    expected = CASES[name].at(fight.setting.level)
    ended = fight.ended[name]
    if fight.setting.closed is None and name == "read files of the system that hold secrets":
        assert ended["outcome"] == "refused"
    assert ended["outcome"] == (intruder.OPEN if expected.startswith(intruder.OPEN) else "refused"), ended["said"]


def test_nobody_else_is_harmed_and_nothing_is_changed(fight: Fight) -> None:
    if fight.setting.level is Level.NONE:
        pytest.skip("at this level nothing keeps it from that")
    assert fight.stage.process.poll() is None
    now = fight.bots()
    for name in (VICTIM, CONTROL):
        assert (now[name]["state"], now[name]["pid"], now[name]["restarts"]) == (
            "running",
            fight.before[name]["pid"],
            0,
        )
    assert fight.ground.fingerprint() == fight.fingerprint
    assert not list(fight.ground.root.rglob("planted.py"))


@attack(
    "say on the queue what only control may, or claim another level", "refused; the bot is ended", area=intruder.AREA
)
def test_a_forged_level_is_not_believed_and_a_hostile_frame_ends_the_intruder_alone(fight: Fight) -> None:
    forged = {"type": "Isolated", "level": "uid" if fight.setting.level is not Level.UID else "none", "uid": 4711}
    fight.tell({"frame": json.dumps(forged)})
    fight.stage.wait(lambda entry: entry.get("record", {}).get("to_state") == "degraded")
    assert fight.bots()[ATTACKER]["isolation"] == fight.setting.level
    fight.tell({"frame": json.dumps({"type": "Command", "id": 1, "verb": "shutdown"})})
    assert fight.stage.wait_death(ATTACKER)["failure"] == "protocol"
    now = fight.bots()
    assert [now[name]["restarts"] for name in (VICTIM, CONTROL)] == [0, 0]
    assert fight.stage.end() == 0
