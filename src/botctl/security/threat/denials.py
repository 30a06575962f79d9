"""What a refused SQL statement reached for, by the server's own words. Pure.

The words are the server's and in English (`lc_messages` of the embedded server is C); who has said them is not asked
here. A bot can raise an error of its own with any words: it accuses nobody but itself.
"""

from __future__ import annotations

import re

from botctl.security.threat.observations import Target

CANARY = "a canary row was touched"
"""Said by the trigger on canaries (migration 0007)."""

_FOREIGN = re.compile(
    r"new row violates row-level security policy"
    r"|permission denied to set (?:role|session authorization)"
    r"|permission denied for (?:table|view|sequence|relation) \"?(?:bot_(?:credentials|keys|secrets)|audit_seals)\b"
    r"|permission denied for (?:table|function) \"?(?:pg_authid|pg_read_|pg_ls_|pg_stat_file)"
)
"""No handler comes to these by mistake: rows that are given to another bot, another's role, what only `control` and the
administrator have, passwords and files of the server.

The schemas `botctl_internal` and `botctl_admin` are not among them: who reflects tables or asks for their sizes is
refused there by the name of a partition, and no bot gets at anything in them, by whatever name.
"""


def target_of(message: str) -> Target:
    """Of a refusal with SQLSTATE 42501."""
    if message.startswith(CANARY):
        return Target.CANARY
    return Target.FOREIGN if _FOREIGN.match(message) else Target.POWER
