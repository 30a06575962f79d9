"""Makes the virtual environment that the scripts run in. Standard library only; called by `environment.sh`.

    make_environment.py ROOT VENV LOCK STAMP

Packages come from LOCK alone, each checked against its hash. botctl itself is put on the path, not installed, so that
an edit takes effect at once. Two of these at a time wait for each other; one that was interrupted is begun again.
"""

import fcntl
import os
import re
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path


def main() -> int:
    """Make or mend the environment; 0 when it stands."""
    root, target, lock, stamp = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        guard = open(f"{target}.lock", "w")  # noqa: SIM115 - closed by the with below
    except OSError as error:
        return fail(f"{target.parent} can't be written: {error.strerror}", "name another place in BOTCTL_VENV")
    with guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        done = target / f".botctl-{lock}-{stamp}"
        if done.exists() and (target / "bin/python").exists():
            return 0
        began = time.monotonic()
        say(f"making the virtual environment {target} with {sys.version.split()[0]} (once; a minute or less)")
        try:
            venv.EnvBuilder(with_pip=True, symlinks=True, clear=not ours(target)).create(target)
        except (subprocess.CalledProcessError, ImportError, OSError) as error:
            return fail(
                f"the virtual environment can't be made: {error}",
                "on Debian and Ubuntu: apt install python3-venv",
            )
        if not install(target / "bin/python", root / lock):
            return fail(
                "installing the packages failed; the lines above say why",
                "see that a package index can be reached (pip's own settings apply), then run the command again",
            )
        purelib = Path(
            subprocess.check_output(
                [target / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
            ).strip()
        )
        (purelib / "botctl.pth").write_text(f"{root / 'src'}\n")
        for old in target.glob(f".botctl-{lock}-*"):
            old.unlink()
        done.touch()
        say(f"ready after {time.monotonic() - began:.0f} s")
    return 0


def ours(target: Path) -> bool:
    """Whether the folder is an environment of this Python that can be kept."""
    python = target / "bin/python"
    if not python.exists():
        return False
    probe = subprocess.run(
        [python, "-c", "import sysconfig, pip; print(sysconfig.get_python_version())"],
        capture_output=True,
        text=True,
        check=False,
    )
    return probe.returncode == 0 and probe.stdout.strip() == sysconfig.get_python_version()


def install(python: Path, lock: Path) -> bool:
    """Run pip, show how far it is."""
    total = len(re.findall(r"^[a-z0-9]", lock.read_text(), re.MULTILINE))
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--no-deps"]
    command += ["--require-hashes", "--no-warn-script-location", "--progress-bar", "off", "-r", str(lock)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    log: list[str] = []
    seen = 0
    lively = sys.stderr.isatty()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, errors="replace"
    )
    assert process.stdout is not None
    for line in process.stdout:
        log.append(line)
        found = re.match(r"(?:Collecting|Requirement already satisfied:) (\S+?)[=<>]", line)
        if found:
            seen += 1
            text = f"  {seen}/{total} {found[1]}"
            if lively:
                sys.stderr.write(f"\r\033[K{text}")
            elif seen % 10 == 0:
                sys.stderr.write(f"{text}\n")
        elif line.startswith("Installing collected"):
            sys.stderr.write("\r\033[K  installing\n" if lively else "  installing\n")
        sys.stderr.flush()
    if process.wait() != 0:
        sys.stderr.write("\n" + "".join(log[-25:]))
        return False
    return True


def say(text: str) -> None:
    """A line for the person at the terminal."""
    sys.stderr.write(f"botctl: {text}\n")
    sys.stderr.flush()


def fail(text: str, hint: str) -> int:
    """An error, and what to do."""
    sys.stderr.write(f"botctl: error: {text}\nhint: {hint}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
