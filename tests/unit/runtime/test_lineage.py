"""Where a process comes from, as its limits tell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from botctl.runtime import lineage

RUN = "0123456789abcdef0123456789abcdef"


def told(code: str, **environment: str) -> list[str]:
    """What a process prints that does this; `show` gives the lineage of a pid."""
    prelude = f"""
import os, resource, subprocess, sys
from botctl.runtime import lineage
RUN = {RUN!r}
def show(pid):
    found = lineage.read(pid)
    print(found.start if found is not None and found.run == lineage.run_number(RUN) else found, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=30, check=True, env=environment
    )
    return done.stdout.split()


def test_it_goes_to_whatever_is_forked_and_execd_in_whatever_session_and_environment():
    assert told(
        """
lineage.write(RUN, 4711)
show(os.getpid())
child = subprocess.Popen(["/bin/sleep", "60"], env={}, start_new_session=True)
show(child.pid)
child.kill()
"""
    ) == ["4711", "4711"]


def test_a_number_is_told_to_the_last_one():
    last = (1 << 32) - 1
    assert told(f"lineage.write(RUN, {last}); show(os.getpid())") == [str(last)]


def test_who_has_none_has_none_and_has_spoilt_nothing():
    assert lineage.read(os.getpid()) is None
    assert lineage.read(1 << 22) is None
    assert not lineage.is_tampered_with(os.getppid())
    assert not lineage.is_tampered_with(1 << 22)


def test_without_a_run_none_is_written():
    assert told("lineage.write('', 1); show(os.getpid())") == ["None"]


def test_where_a_limit_is_lower_already_both_stay_as_they_are():
    script = """
resource.setrlimit(15, (1000, 1000))
before = resource.getrlimit(10)
lineage.write(RUN, 1)
show(os.getpid())
print(resource.getrlimit(10) == before)
"""
    assert told(script) == ["None", "True"]


@pytest.mark.skipif(os.geteuid() != 0, reason="the first of them must be root, to be somebody else then")
def test_it_can_be_spoilt_but_not_be_made_another():
    script = """
def attempt(which, limit):
    try:
        resource.setrlimit(which, (limit, limit))
    except ValueError:
        print("refused")
lineage.write(RUN, 5)
os.setresuid(65534, 65534, 65534)
locks, realtime = resource.getrlimit(10)[1], resource.getrlimit(15)[1]
attempt(10, locks + 1)     # to be the next one
attempt(15, realtime + 1)  # to be the one before
show(os.getpid())
attempt(10, locks - 1)
show(os.getpid())
attempt(15, realtime + 1)
show(os.getpid())
sys.stdin.read()
"""
    assert told(script) == ["refused", "refused", "5", "None", "refused", "None"]


def test_who_has_spoilt_it_is_known_by_that():
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import resource, sys; from botctl.runtime import lineage; lineage.write({RUN!r}, 5);"
            "resource.setrlimit(10, (5, 5)); print(flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert Path(f"/proc/{process.pid}").exists()
        assert lineage.is_tampered_with(process.pid)
        assert lineage.read(process.pid) is None
    finally:
        process.kill()
        process.wait()
