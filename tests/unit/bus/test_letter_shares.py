"""Whose dead letters go when there are too many."""

from __future__ import annotations

from botctl.bus.reading.letter_shares import OVERHEAD, LetterShares


def fill(shares: LetterShares, stream: str, count: int, size: int = 0) -> list[bytes]:
    """So many letters of one stream; those that had to go."""
    return [gone for n in range(count) for gone in shares.add(stream, f"{stream}-{n}".encode(), size)]


def test_who_has_most_loses_its_own_and_its_oldest() -> None:
    shares = LetterShares(room=100 * OVERHEAD)
    assert fill(shares, "quiet", 5) == []
    assert fill(shares, "loud", 500) == [b"loud-%d" % n for n in range(405)]


def test_large_letters_count_for_more() -> None:
    shares = LetterShares(room=100 * OVERHEAD)
    assert fill(shares, "small", 40) == []
    gone = fill(shares, "large", 100, size=3 * OVERHEAD)
    assert gone == [b"large-%d" % n for n in range(85)]


def test_several_that_flood_share_what_others_leave() -> None:
    shares = LetterShares(room=100 * OVERHEAD)
    fill(shares, "quiet", 10)
    gone = [one for n in range(200) for loud in ("a", "b", "c") for one in shares.add(loud, f"{loud}{n}".encode(), 0)]
    assert not any(one.startswith(b"quiet") for one in gone)
    assert len(gone) == 600 - 90
    assert {one[:1] for one in gone[-3:]} == {b"a", b"b", b"c"}
