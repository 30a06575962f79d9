"""What is written while a real disk is full: lines that matter wait for room, others are counted."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.mounts import in_mount

DEATHS = """
import sys, time
from pathlib import Path
from botctl.runtime.logs import LogKeeper

place = Path(sys.argv[1])
keeper = LogKeeper(place / "logs", redact=lambda _, lines: lines)
keeper.start()
filler = (place / "filler").open("wb", buffering=0)
try:
    while True:
        filler.write(bytes(4096))
except OSError:
    pass
for number in range(20):
    keeper.write("deaths", f"death {number} " + 1000 * "x", keep=True)
    keeper.write("daemon", 5000 * "y")
log = place / "logs/deaths.log"
deadline = time.monotonic() + 10
while not keeper._late._again_at:
    assert time.monotonic() < deadline, "the disk was never full"
    time.sleep(0.01)
filler.truncate(0)
keeper.write("deaths", "the last", keep=True)
while not log.exists() or "the last" not in log.read_text():
    assert time.monotonic() < deadline, log.read_text() if log.exists() else "no file"
    time.sleep(0.01)
lines = [line.split(" x")[0] for line in log.read_text().splitlines()]
assert lines == [*(f"death {number}" for number in range(20)), "the last"], lines
keeper.write("daemon", "well again")
keeper.stop(5)
assert "writes were lost" in (place / "logs/daemon.log").read_text()
"""


def test_deaths_are_written_in_order_once_there_is_room_again(tmp_path: Path) -> None:
    program = tmp_path.parent / f"{tmp_path.name}.py"
    program.write_text(DEATHS)
    done = in_mount(tmp_path, f"mount -t tmpfs -o size=128k none {tmp_path}", f"{sys.executable} {program} {tmp_path}")
    assert done.returncode == 0, done.stderr
