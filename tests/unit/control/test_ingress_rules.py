"""The pure rules of the ingress: secrets, who may come in, how much at once, who has to go."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from botctl.control.ingress import secrets as rules
from botctl.control.ingress.crowd import MOST, MOST_WITH_TLS, Crowd, most_of
from botctl.control.ingress.door import Door, Resident
from botctl.control.ingress.figures import BOUNDS, Figures
from botctl.control.ingress.room import Room
from botctl.control.ingress.secrets import LENGTH, MOST_EARLIER, WebhookSecret, match
from botctl.errors import VaultError

ALICE, BOB = 1001, 1002


def test_a_secret_is_one_that_telegram_takes_and_no_two_are_alike() -> None:
    made = {WebhookSecret.new(0.0).current for _ in range(50)}
    assert len(made) == 50
    assert all(len(one) == LENGTH and one.replace("-", "").replace("_", "").isalnum() for one in made)


def test_a_renewed_secret_accepts_what_telegram_may_still_use() -> None:
    first = WebhookSecret.new(1.0)
    second = first.renewed(2.0)
    assert match(second, first.current.encode()) == rules.Match(fits=True, newest=False)
    assert match(second, second.current.encode()) == rules.Match(fits=True, newest=True)
    settled = second.settled()
    assert not match(settled, first.current.encode()).fits
    assert match(settled, second.current.encode()).newest


def test_no_more_than_a_few_earlier_ones_are_accepted() -> None:
    known = [WebhookSecret.new(0.0)]
    for at in range(MOST_EARLIER + 1):
        known.append(known[-1].renewed(float(at)))
    assert len(known[-1].words) == 1 + MOST_EARLIER
    assert not match(known[-1], known[0].current.encode()).fits
    assert match(known[-1], known[1].current.encode()).fits


def test_it_is_kept_whole_and_shown_nowhere() -> None:
    secret = WebhookSecret.new(7.0).renewed(8.0)
    assert WebhookSecret.decoded(secret.encoded()) == secret
    assert not any(word in repr(secret) for word in secret.words)
    with pytest.raises(VaultError):
        WebhookSecret.decoded(b'{"current": 1}')


@pytest.mark.parametrize("secret", [None, WebhookSecret.new(0.0), WebhookSecret.new(0.0).renewed(1.0)])
def test_as_many_comparisons_are_made_whoever_is_meant(
    secret: WebhookSecret | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []

    def counting(one: bytes, other: bytes) -> bool:
        compared.append(len(other))
        return real(one, other)

    real = hmac.compare_digest
    monkeypatch.setattr(rules.hmac, "compare_digest", counting)
    assert not match(secret, b"x" * LENGTH).fits
    assert compared == [LENGTH] * (1 + MOST_EARLIER)


def test_it_is_the_comparison_that_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules.hmac, "compare_digest", lambda one, other: True)
    assert match(WebhookSecret.new(0.0), b"anything").fits
    assert not match(None, b"anything").fits, "what nobody was given opens nothing"


def door(path: str = "/telegram") -> tuple[Door, WebhookSecret, WebhookSecret]:
    alice, bob = WebhookSecret.new(0.0), WebhookSecret.new(0.0)
    return Door(path, {ALICE: Resident(ALICE, alice), BOB: Resident(BOB, bob)}), alice, bob


@pytest.mark.parametrize("path", ["/telegram", "", "/a/b"])
def test_who_shows_a_bots_secret_at_its_address_is_let_in(path: str) -> None:
    made, alice, _ = door(path)
    admitted = made.admit(f"{path}/{ALICE}", alice.current.encode())
    assert admitted is not None
    assert (admitted.resident.bot_id, admitted.newest) == (ALICE, True)


def test_everybody_else_is_nobody() -> None:
    made, alice, _ = door()
    shown: list[tuple[str, Any]] = [
        (f"/telegram/{BOB}", alice.current),
        (f"/telegram/{ALICE}", ""),
        (f"/telegram/{ALICE}", alice.current[:-1]),
        (f"/telegram/{ALICE}", alice.current + "x"),
        ("/telegram/1003", alice.current),
        (f"/telegram/{ALICE}/", alice.current),
        (f"/telegram//{ALICE}", alice.current),
        (f"/telegram/0{ALICE}", alice.current),
        (f"/{ALICE}", alice.current),
        (f"/other/{ALICE}", alice.current),
        ("/telegram/١٠٠١", alice.current),
        ("/telegram/" + "9" * 5000, alice.current),
        ("/telegram/", alice.current),
        ("", alice.current),
    ]
    assert [one for one in shown if made.admit(one[0], one[1].encode()) is not None] == []


def test_one_bot_can_not_take_the_room_of_all() -> None:
    room = Room(most=10, most_of_bot=4, most_bytes=1000)
    assert [room.enter(ALICE, 1) for _ in range(5)] == [True] * 4 + [False]
    assert room.enter(BOB, 1)
    room.leave(ALICE, 1)
    assert room.enter(ALICE, 1)
    assert (room.requests, room.bytes) == (5, 5)


def test_the_bytes_on_their_way_are_bounded_and_room_is_given_back() -> None:
    room = Room(most=10, most_of_bot=10, most_bytes=1000)
    assert room.enter(ALICE, 600)
    assert not room.enter(BOB, 600)
    room.leave(ALICE, 600)
    assert room.enter(BOB, 1000)
    room.leave(BOB, 1000)
    assert (room.requests, room.bytes) == (0, 0)


def test_strangers_push_out_strangers_the_oldest_first() -> None:
    crowd: Crowd[str] = Crowd(3)
    assert [crowd.enter(one) for one in ("a", "b", "c")] == [None] * 3
    crowd.known("a", ALICE)
    assert crowd.enter("d") == "b"
    assert crowd.enter("e") == "c"
    crowd.leave("d")
    assert crowd.enter("f") is None
    assert (len(crowd), sorted(crowd.everybody())) == (3, ["a", "e", "f"])


def test_a_thousand_strangers_push_out_nobody_who_is_known() -> None:
    crowd: Crowd[int] = Crowd(5)
    for one in range(4):
        crowd.enter(one)
        crowd.known(one, ALICE)
    gone = [crowd.enter(one) for one in range(10, 1010)]
    assert gone == [None, *range(10, 1009)]
    assert set(crowd.everybody()) == {0, 1, 2, 3, 1009}


def test_where_all_are_known_the_bot_with_the_most_loses_the_one_silent_for_longest() -> None:
    crowd: Crowd[str] = Crowd(4)
    for one, bot_id in (("a", ALICE), ("b1", BOB), ("b2", BOB), ("b3", BOB)):
        crowd.enter(one)
        crowd.known(one, bot_id)
    crowd.known("b1", BOB)
    assert crowd.enter("new") == "b2"
    crowd.known("gone", ALICE)
    assert len(crowd) == 4


def test_latencies_are_counted_below_their_bounds() -> None:
    figures = Figures()
    for seconds in (0.001, BOUNDS[0], 0.3, 99.0):
        figures.took(seconds)
    assert (figures.latencies[0], figures.latencies[6], figures.latencies[-1]) == (2, 1, 1)
    assert figures.latency_sum == pytest.approx(99.306)


def test_a_crowd_leaves_descriptors_for_others() -> None:
    assert [most_of(20_000, tls=tls) for tls in (False, True)] == [MOST, MOST_WITH_TLS]
    assert [most_of(256, tls=tls) for tls in (False, True)] == [128, 128]
    assert most_of(1, tls=False) == 1
