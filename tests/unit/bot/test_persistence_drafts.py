"""Attempts change their own copy; what they have changed is brought together when they are committed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from botctl.bot.keeping.drafts import BOT, Change, Draft, Kept, NotLoadedError, Owner, merged, read_kept

ADA: Owner = ("user", "7")


class World:
    """What is committed, and attempts at it."""

    def __init__(self, **owners: dict[Any, Any]) -> None:
        self.kept: dict[Owner, Kept] = {ADA: Kept(), BOT: Kept()}
        self.told: list[tuple[str, str]] = []
        for number, values in owners.items():
            draft = self.draft()
            draft.values(("user", number.strip("_")) if number != "bot" else BOT).update(values)
            self.commit(draft)

    def draft(self) -> Draft:
        return Draft(self.kept.get, lambda *what: self.told.append(what))

    def commit(self, draft: Draft) -> list[Change]:
        changes = draft.changes()
        for change in changes:
            self.kept[change.owner] = merged(self.kept[change.owner], change)
        return changes

    def of(self, owner: Owner) -> dict[Any, Any]:
        return dict(self.draft().values(owner))


def test_an_attempt_that_is_not_committed_leaves_nothing_behind() -> None:
    world = World(_7={"cart": ["tea"], "steps": {"a": 1}})
    failed = world.draft()
    values = failed.values(ADA)
    values["cart"].append("milk")
    values["steps"]["b"] = 2
    values["new"] = 1
    del values["cart"]
    assert world.of(ADA) == {"cart": ["tea"], "steps": {"a": 1}}


def test_within_an_attempt_it_is_one_object() -> None:
    draft = World().draft()
    draft.values(ADA)["x"] = [1]
    draft.values(ADA)["x"].append(2)
    assert draft.values(ADA) == {"x": [1, 2]}


def test_what_was_only_looked_at_is_no_change() -> None:
    world = World(_7={"cart": [{"tea": (1, {2})}]})
    draft = world.draft()
    assert draft.values(ADA)["cart"]
    assert world.commit(draft) == []


def test_two_attempts_at_once_lose_no_key_of_each_other() -> None:
    world = World(bot={"users": {1: "a"}, "names": {"x"}, "gone": 1, "list": [1]})
    first, second = world.draft(), world.draft()
    first.values(BOT)["users"][2] = "b"
    second.values(BOT)["users"][3] = "c"
    del second.values(BOT)["users"][1]
    first.values(BOT)["names"].add("y")
    second.values(BOT)["names"].discard("x")
    del first.values(BOT)["gone"]
    first.values(BOT)["list"].append(2)
    second.values(BOT)["list"].append(3)
    world.commit(first)
    world.commit(second)
    assert world.of(BOT) == {"users": {2: "b", 3: "c"}, "names": {"y"}, "list": [1, 3]}


def test_dropping_everything_drops_what_others_have_put_there_meanwhile_too() -> None:
    world = World(_7={"a": 1})
    dropping, other = world.draft(), world.draft()
    dropping.empty(ADA)
    dropping.values(ADA)["b"] = 2
    other.values(ADA)["c"] = 3
    world.commit(other)
    world.commit(dropping)
    assert world.of(ADA) == {"b": 2}


def test_what_can_t_be_stored_is_shared_and_told_once_with_place_and_type() -> None:
    world = World()
    draft, lock = world.draft(), asyncio.Lock()
    draft.values(BOT)["tools"] = {"lock": lock}
    draft.values(BOT)["plain"] = 1
    (change,) = world.commit(draft)
    assert set(change.texts) == {"plain"}
    assert world.told == [("bot_data['tools']['lock']", "asyncio.locks.Lock")]
    assert world.of(BOT)["tools"]["lock"] is lock
    assert read_kept(world.kept[BOT].text) == Kept({"plain": "1"})
    assert world.commit(world.draft()) == []
    replaced = world.draft()
    replaced.values(BOT)["tools"] = "stored"
    world.commit(replaced)
    assert world.of(BOT) == {"tools": "stored", "plain": 1}


def test_who_is_not_in_memory_is_told_apart_from_who_has_nothing() -> None:
    with pytest.raises(NotLoadedError, match=r"user_data\[8\]"):
        World().draft().values(("user", "8"))


def test_what_can_t_be_read_is_left_as_it_is() -> None:
    world = World()
    broken = '{"$enum":["gone","Colour","RED"]}'
    world.kept[ADA] = Kept({"odd": broken, "fine": "1"})
    draft = world.draft()
    assert draft.values(ADA) == {"fine": 1}
    draft.values(ADA)["fine"] = 2
    world.commit(draft)
    assert world.kept[ADA].texts == {"odd": broken, "fine": "2"}
    assert world.told[0][0] == "user_data[7]['odd']"


def test_a_lasting_draft_takes_over_what_others_commit_and_keeps_what_it_has_changed() -> None:
    world = World(bot={"a": 1, "b": 1, "c": 1})
    around = world.draft()
    around.values(BOT)["a"] = 2
    other = world.draft()
    other.values(BOT).update(a=9, b=9, d=9)
    del other.values(BOT)["c"]
    (change,) = world.commit(other)
    around.absorb(change, world.kept[BOT])
    assert around.values(BOT) == {"a": 2, "b": 9, "d": 9}
    (mine,) = around.changes()
    around.values(BOT)["later"] = 1
    world.kept[BOT] = merged(world.kept[BOT], mine)
    around.settle(mine, world.kept[BOT])
    (rest,) = around.changes()
    assert set(rest.values) == {"later"}
    assert world.of(BOT) == {"a": 2, "b": 9, "d": 9}


def test_what_is_stored_goes_before_what_was_put_there_before_it_was_read() -> None:
    world = World()
    around, pool = world.draft(), object()
    around.values(BOT).update(count=0, pool=pool, fresh=[])
    world.kept[BOT] = Kept({"count": "41", "pool": "1"})
    around.found(BOT, world.kept[BOT])
    assert around.values(BOT) == {"count": 41, "pool": pool, "fresh": []}
    world.commit(around)
    assert world.of(BOT) == {"count": 41, "pool": pool, "fresh": []}


VALUES = st.dictionaries(
    st.sampled_from(["a", "$b", (1, 2), 3, "\ud800"]),
    st.integers() | st.text() | st.dictionaries(st.integers(), st.sets(st.integers(0, 3))),
)


@given(VALUES)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_what_is_committed_is_what_is_read_after_a_restart(values: dict[Any, Any]) -> None:
    world = World(_7=values)
    world.kept[ADA] = read_kept(world.kept[ADA].text)
    assert world.of(ADA) == values
    assert world.told == []


@given(VALUES, VALUES, VALUES)
def test_of_two_attempts_at_once_the_second_has_its_way_where_both_have_changed_the_same(
    before: dict[Any, Any], first: dict[Any, Any], second: dict[Any, Any]
) -> None:
    world = World(_7=before)
    one, other = world.draft(), world.draft()
    for draft, after in ((one, first), (other, second)):
        values = draft.values(ADA)
        values.clear()
        values.update(after)
    world.commit(one)
    world.commit(other)
    found = world.of(ADA)
    for key in {*before, *first, *second}:
        if before.get(key) == first.get(key):
            assert found.get(key) == second.get(key)
        elif before.get(key) == second.get(key):
            assert found.get(key) == first.get(key)
        elif not isinstance(second.get(key), dict):
            assert found.get(key) == second.get(key)
