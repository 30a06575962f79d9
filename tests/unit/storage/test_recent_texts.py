"""What was sealed or opened lately is remembered, within its room."""

from __future__ import annotations

from botctl.storage.recent_texts import RecentTexts


def test_what_was_kept_is_known_and_nothing_else() -> None:
    recent = RecentTexts()
    recent.keep("$sealed:AA==", "hello")
    assert recent.get("$sealed:AA==") == "hello"
    assert recent.get("$sealed:AB==") is None


def test_the_oldest_makes_room() -> None:
    recent = RecentTexts(room=10_000)
    for n in range(1000):
        recent.keep(f"$sealed:{n}", str(n))
    assert recent.get("$sealed:999") == "999"
    assert recent.get("$sealed:0") is None
    assert 10_000 - 12 < sum(len(f"$sealed:{n}") for n in range(1000) if recent.get(f"$sealed:{n}")) <= 10_000


def test_keeping_again_takes_no_more_room() -> None:
    recent = RecentTexts(room=100)
    recent.keep("$sealed:first", "first")
    for _ in range(100):
        recent.keep("$sealed:one", "one")
    assert recent.get("$sealed:first") == "first"
