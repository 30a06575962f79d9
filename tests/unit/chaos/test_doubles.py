"""A part that comes twice is excused by its own row's hidden outcome, and by no other row's."""

from __future__ import annotations

from chaos.kills.doubles import Excuse, Excuses, Row, doubles, excuses
from chaos.kills.messages import Kind, Message

NAMES = ["load00", "load01"]


def message(number: int, kind: Kind = Kind.CALLS, *, bot: int = 0, seen: tuple[int, ...] = ()) -> Message:
    made = Message(number, kind, bot, 5, (bot, 5), 0.0, update_id=100 + number)
    for part, times in enumerate(seen):
        made.seen[part] = [float(at) for at in range(times)]
    return made


def row(number: int, part: int = 0, uncertain: int = 0, *, bot: int = 0) -> Row:
    return Row(bot, f"update:{100 + number}", part, 5, f"m{number}x {part + 1}/3", uncertain, 1)


def found(messages: list[Message], rows: list[Row]) -> list[str]:
    return list(doubles({one.number: one for one in messages}, rows, NAMES))


def test_each_copy_needs_a_hidden_outcome_of_its_own_row() -> None:
    rows = [row(1, 0, 1), row(1, 1), row(1, 2, 5)]
    assert found([message(1, seen=(2, 1, 1))], rows) == []
    assert found([message(1, seen=(3, 1, 1))], rows) == [
        "load00: part 0 of m1x (calls) was seen 3 times; row update:101 0 is uncertain 1 times"
    ]
    # Its neighbour's five hidden outcomes, and another message's, are no excuse.
    assert len(found([message(1, seen=(1, 2, 1)), message(2, seen=(1, 1, 1))], [*rows, row(2, 0, 9)])) >= 1
    assert "part 1 of m1x" in found([message(1, seen=(1, 2, 1))], rows)[0]


def test_a_part_stands_in_one_row_of_the_bot_that_sent_it() -> None:
    note = message(1, Kind.NOTE, seen=(1,))
    assert found([note], []) == ["load00: part 0 of m1x (note) was seen, and stands in no row"]
    twice = [row(1), Row(0, "event:a", 0, 5, "m1x 1/1", 3, 1)]
    assert found([note], twice) == ["load00: part 0 of m1x (note) stands in 2 rows: update:101 0, event:a 0"]
    assert found([note], [row(1, bot=1)]) == [
        "load00: part 0 of m1x (note) stands in rows of another bot: update:101 0"
    ]


def judged(seen: list[tuple[int, int]], rows: list[Row], *asked: Message) -> Excuses:
    told = [Excuse(0, chat, message_id, float(at)) for at, (chat, message_id) in enumerate(seen)]
    return excuses(told, rows, {one.number: one for one in asked}, NAMES)


def sorry(number: int, message_id: int, uncertain: int = 0, *, chat: int = 5) -> Row:
    return Row(0, f"update:{100 + number}", 0, chat, "Sorry", uncertain, message_id)


def test_an_excuse_that_stands_in_no_row_is_a_copy_of_its_chats_next_one() -> None:
    first, second = message(1, Kind.ASK), message(2, Kind.ASK)
    well = judged([(5, 10), (6, 10), (5, 11), (5, 12)], [sorry(1, 11, 1), sorry(2, 12)], first, second)
    assert (well.of, well.surplus[0]) == ({1: 2.0, 2: 3.0}, 2)
    assert well.wrong == ["load00, chat 6: 1 excuses stand in no row"]
    # The second one's hidden outcome doesn't excuse the first one's copy.
    ill = judged([(5, 10), (5, 11), (5, 12)], [sorry(1, 11), sorry(2, 12, 1)], first, second)
    assert ill.wrong == ["load00: the excuse of row update:101 0 was seen 2 times; it is uncertain 0 times"]


def test_an_excuse_answers_a_question_that_has_no_answer() -> None:
    asked, note = message(1, Kind.ASK, seen=(1,)), message(2, Kind.NOTE)
    assert judged([(5, 11)], [sorry(1, 11)], asked).wrong == ["load00: m1x was answered and excused"]
    found = judged([(5, 12)], [sorry(2, 12)], note)
    assert (found.of, found.wrong) == ({}, ["load00: the excuse of row update:102 0 answers no question"])
