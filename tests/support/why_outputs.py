"""What `botctl why` prints in the tests of failure classes, kept for docs/operations.md.

    WHY_OUTPUTS=FOLDER pytest tests/e2e/test_failure_classes.py tests/e2e/test_deafness.py
    python tests/support/why_outputs.py FOLDER docs/operations.md

Tests keep the answers; run by itself, this puts them between the marks of the page.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from pathlib import Path

BEGIN, END = "<!-- why: outputs -->\n", "<!-- /why -->"
WIDTH = 118

SHOWN = {
    "licence": "`crash`, again and again, and so quarantined",
    "segfault": "`crash` in a library in C",
    "call_exit": "`exit`",
    "hang": "`hang`",
    "slow": "`not_ready`: an import that does not end",
    "hoard": "`memory`: the soft limit",
    "overeat": "`memory`: the hard limit",
    "revoked": "`bad_token`",
    "typo": "`code`: it can't be parsed",
    "leaving": "`code`: it leaves",
    "killed": "`signal`",
    "no_process": "`spawn`",
    "babble": "`protocol`",
    "deaf": "`deaf`",
    "rival": "409, which is no failure: degraded",
    "flooded": "429, which is none either",
    "thoughtless": "the completion API is down",
    "valkey": "Redis is down",
    "postgres": "the database is down: paused",
}
"""Answers by the name they are kept under, and what each is an example of."""


def keep(name: str, answer: str, folder: Path) -> None:
    """Keep an answer, without the folders of this machine, if WHY_OUTPUTS says where."""
    where = os.environ.get("WHY_OUTPUTS")
    if where:
        text = answer.replace(str(folder), "/srv/bots")
        text = re.sub(r"(?<=[\"(])/\S*?/(?=site-packages/|src/botctl/|python3\.\d+/)", "…/", text)
        Path(where, f"{name}.txt").write_text(text)


def page(outputs: Path) -> str:
    """The answers as a part of a page."""
    parts = []
    for name, heading in SHOWN.items():
        answer = (outputs / f"{name}.txt").read_text().rstrip()
        lines = [f"$ botctl why {answer.split()[0]}"]  # the first word is the bot's name
        for line in answer.splitlines():
            indent = line[: len(line) - len(line.lstrip())]
            lines += textwrap.wrap(line, WIDTH, subsequent_indent=indent + "  ", break_on_hyphens=False) or [""]
        body = "\n".join(lines)
        parts.append(f"**{heading[0].upper()}{heading[1:]}**\n\n```console\n{body}\n```\n")
    return "\n".join(parts)


def main() -> None:
    """Put them into the page."""
    outputs, target = Path(sys.argv[1]), Path(sys.argv[2])
    before, _, rest = target.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after, f"no marks in {target}"
    target.write_text(before + BEGIN + page(outputs) + END + after)


if __name__ == "__main__":
    main()
