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
from botctl.control.ingress.telling import Telling
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
    room = Room(most=100, most_of_bot=4)
    assert [room.enter(ALICE) for _ in range(5)] == [True] * 4 + [False]
    assert room.enter(BOB)
    room.leave(ALICE, 0)
    assert room.enter(ALICE)
    assert room.requests == 5


def test_one_bot_can_not_take_the_bytes_of_all_and_room_is_given_back() -> None:
    room = Room(most_bytes=9000)
    room.enter(ALICE)
    took = 0
    while room.arrive(ALICE, 100):
        took += 100
    assert took == 1000, "an eighth of what is free then"
    room.enter(BOB)
    assert room.arrive(BOB, 500)
    room.leave(ALICE, took)
    room.leave(BOB, 500)
    assert (room.requests, room.bytes) == (0, 0)


def test_however_many_bots_take_all_they_get_something_is_free_for_one_more() -> None:
    room = Room()
    for bot_id in range(20):
        while room.enter(bot_id):
            pass
        while room.arrive(bot_id, 4096):
            pass
    assert room.enter(1000)
    assert room.arrive(1000, 64 * 1024)


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
        crowd.known(one, ALICE + one)
    gone = [crowd.enter(one) for one in range(10, 1010)]
    assert gone == [None, *range(10, 1009)]
    assert set(crowd.everybody()) == {0, 1, 2, 3, 1009}


def test_where_all_are_known_the_bot_with_the_most_loses_the_one_silent_for_longest() -> None:
    crowd: Crowd[str] = Crowd(13)
    for number in range(13):
        crowd.enter(str(number))
        crowd.known(str(number), (ALICE, BOB, 3, 4, 5)[number % 5])
    crowd.known("1", BOB)
    crowd.leave("0")
    crowd.leave("2")
    crowd.leave("12")
    assert [crowd.enter(one) for one in ("x", "y", "z")] == [None] * 3
    for one in ("x", "y", "z"):
        crowd.known(one, 6)
    assert crowd.enter("new") == "6", "BOB has three, and 1 has just been heard of"
    assert crowd.known("gone", ALICE) is None
    assert len(crowd) == 13


def test_a_bot_has_a_share_of_the_places_and_goes_on_with_its_newest() -> None:
    crowd: Crowd[int] = Crowd(16)
    gone = []
    for one in range(10):
        crowd.enter(one)
        gone.append(crowd.known(one, ALICE))
    assert gone == [None] * 4 + list(range(6))
    assert crowd.everybody() == [6, 7, 8, 9]
    crowd.known(6, ALICE)
    crowd.enter(10)
    assert crowd.known(10, ALICE) == 7


def test_newcomers_have_time_to_show_a_secret_also_where_all_others_have_shown_one() -> None:
    crowd: Crowd[int] = Crowd(32)
    for one in range(32):
        crowd.enter(one)
        crowd.known(one, one % 4)
    newcomers = [100, 101, 102, 103]
    assert all((gone := crowd.enter(one)) is not None and gone < 32 for one in newcomers)
    assert crowd.enter(104) == 100, "strangers have an eighth of the places, and push out each other beyond"


def test_latencies_are_counted_below_their_bounds() -> None:
    figures = Figures()
    for seconds in (0.001, BOUNDS[0], 0.3, 99.0):
        figures.took(seconds)
    assert (figures.latencies[0], figures.latencies[6], figures.latencies[-1]) == (2, 1, 1)
    assert figures.latency_sum == pytest.approx(99.306)


def test_what_happens_again_and_again_is_told_once_a_minute_and_how_often() -> None:
    telling = Telling(60.0)
    told = [telling.times(ALICE, "odd", float(at)) for at in range(0, 130, 10)]
    assert told == [1, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 6]
    assert telling.times(BOB, "odd", 125.0) == telling.times(ALICE, "other", 125.0) == 1


def test_a_crowd_leaves_descriptors_for_others() -> None:
    assert [most_of(20_000, tls=tls) for tls in (False, True)] == [MOST, MOST_WITH_TLS]
    assert [most_of(256, tls=tls) for tls in (False, True)] == [128, 128]
    assert most_of(1, tls=False) == 1
