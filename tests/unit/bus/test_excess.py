"""Whose connections are too many, how many entries are asked for, and what a stream has lost."""

from __future__ import annotations

from botctl.bus.caretaking.crowd import FRESH, MOST_CONNECTIONS, MOST_MEMORY, MOST_TRAFFIC, Crowd
from botctl.bus.caretaking.losses import BEFORE, TELL_EVERY, Losses
from botctl.bus.reading.mailbox_groups import before
from botctl.bus.routing.portions import ENOUGH, FIRST, MOST, Portions


def client(number: int, user: str = "t-bot-1", **more: object) -> str:
    fields = {"id": number, "addr": "127.0.0.1:1", "name": "a=b", "age": 9, "cmd": "xadd", "user": user} | more
    return " ".join(f"{name}={value}" for name, value in fields.items())


def test_too_many_connections_too_large_buffers_and_too_much_traffic_are_told() -> None:
    many = "\n".join(client(n) for n in range(MOST_CONNECTIONS))
    assert Crowd().look(many, 0.0)["t-bot-1"].excess() is None
    assert "connections" in (Crowd().look(many + "\n" + client(99), 0.0)["t-bot-1"].excess() or "")
    large = client(1, **{"tot-mem": MOST_MEMORY + 1})
    assert "buffers" in (Crowd().look(large, 0.0)["t-bot-1"].excess() or "")
    busy = Crowd()
    busy.look(traffic(10**9), 0.0)
    assert busy.look(traffic(10**9 + 5), 0.5)["t-bot-1"].traffic == 5
    much = busy.look(traffic(2 * MOST_TRAFFIC + 10**9), 1.0)["t-bot-1"]
    assert "read and written" in (much.excess() or "")


def traffic(size: int, number: int = 1) -> str:
    return client(number, **{"tot-net-in": size})


def test_nobody_is_judged_by_what_went_before_the_first_look() -> None:
    """A connection's whole life counts for nothing: 70 MB in a day are no flood."""
    assert Crowd().look(traffic(2 * MOST_TRAFFIC), 0.0)["t-bot-1"].excess() is None


def test_nobody_is_judged_by_a_look_long_ago() -> None:
    """The list is read when somebody makes trouble, or the server has stood still: then that look is of any age."""
    crowd = Crowd()
    crowd.look(traffic(0), 0.0)
    assert crowd.look(traffic(2 * MOST_TRAFFIC), FRESH + 0.1)["t-bot-1"].excess() is None
    assert crowd.look(traffic(2 * MOST_TRAFFIC + 9), FRESH + 0.6)["t-bot-1"].traffic == 9


def test_a_connection_made_since_a_fresh_look_counts_whole() -> None:
    crowd = Crowd()
    crowd.look(traffic(0), 0.0)
    again = crowd.look(traffic(0) + "\n" + traffic(2 * MOST_TRAFFIC, number=2), 0.5)
    assert "read and written" in (again["t-bot-1"].excess() or "")


def test_who_has_not_logged_in_for_a_while_is_a_stranger() -> None:
    first = [client(1, "default", cmd="NULL"), client(2, "default", cmd="NULL", age=1)]
    others = [client(3, "default", cmd="info"), client(4, "default", cmd="auth")]
    seen = Crowd().look("\n".join(first + others), 0.0)
    assert seen["default"].strangers == ["1", "4"]


def test_portions_grow_while_replies_are_small_and_shrink_when_one_is_large() -> None:
    portions = Portions()
    assert portions.count(1) == FIRST
    for _ in range(5):
        portions.took(1, portions.count(1), 1000)
    assert portions.count(1) == MOST
    portions.took(1, MOST, 50 * ENOUGH)
    assert portions.count(1) == 2
    portions.took(1, 1, 9 * ENOUGH)
    assert portions.count(1) == 1
    assert portions.count(2) == FIRST
    portions.careful()
    assert portions.count(2) == 1
    portions.took(2, 0, 0)
    assert portions.count(2) == 1, "nothing came: that says nothing"


def test_what_was_added_and_never_read_is_lost_once() -> None:
    losses = Losses()
    losses.compare(1, added=100, read=90, now=1.0)
    assert losses.take(1.0) == [], "what was missing before anybody looked is not known"
    losses.compare(1, 200, 190, 3.0)
    losses.compare(1, 205, 192, 4.0)
    assert losses.take(4.0) == [(1, 3, 1.0 + BEFORE)]
    losses.compare(1, 206, 192, 5.0)
    assert losses.take(5.0) == []
    assert losses.take(4.0 + TELL_EVERY) == [(1, 1, TELL_EVERY + BEFORE)]
    losses.begun_again(1)
    losses.compare(1, 0, 0, 20.0)
    assert losses.take(40.0) == []


def test_the_id_before_another() -> None:
    assert [before(one) for one in (b"5-3", b"5-0", b"0-0")] == ["5-2", f"4-{2**64 - 1}", "0-0"]
