"""Who is told what a server that is empty now has taken with it."""

from __future__ import annotations

from botctl.bus.caretaking.dropped import Dropped
from botctl.bus.reading.lag import Lag
from botctl.bus.topology import Topology
from botctl.control.bus.drop_teller import unread_before

NS = Topology("ns")


def test_bots_and_groups_are_told_what_does_not_come_again() -> None:
    lags = [
        Lag("bot:anna", "", NS.mailbox(5), unread=3, pending=1, oldest="999000-0"),
        Lag("bot:bert", "", NS.mailbox(6), unread=3, oldest="1000000-0"),  # comes again
        Lag("bot:carl", "", NS.mailbox(7)),
        Lag("group:desk", "", NS.group("desk"), unread=2, oldest="5-1"),
        Lag("grant:crm", "bot", "ns:events:bot", unread=2, oldest="5-1"),  # its keeper tells
    ]
    assert unread_before(1000.0, lags, NS) == [
        Dropped(NS.mailbox(5), "bot:5", 4, "999000-0", "1000000-0", "redis"),
        Dropped(NS.group("desk"), "group:desk", 2, "5-1", "1000000-0", "redis"),
    ]
