"""What changes from one fleet to the next."""

from botctl.fleet import BotSpec, Fleet, diff_fleets


def bot(name: str, number: int, **extra: object) -> BotSpec:
    return BotSpec.model_validate({"name": name, "token": f"{number}:secret", **extra})


def test_bots_are_compared_by_their_id_not_by_their_name() -> None:
    old = Fleet(bots=(bot("a", 1), bot("b", 2), bot("c", 3)))
    new = Fleet(bots=(bot("a2", 1), bot("b", 9), bot("c", 3)))
    diff = diff_fleets(old, new)
    assert (diff.added, diff.removed, diff.changed, diff.unchanged) == (("b",), ("b",), ("a2",), ("c",))
    assert not diff.empty


def test_the_same_fleet_changes_nothing() -> None:
    fleet = Fleet(bots=(bot("a", 1),), folder="/x")
    assert diff_fleets(fleet, fleet).empty


def test_a_rotated_token_is_a_change_of_the_same_bot() -> None:
    old = Fleet(bots=(BotSpec.model_validate({"name": "a", "token": "1:old"}),))
    new = Fleet(bots=(BotSpec.model_validate({"name": "a", "token": "1:new"}),))
    assert diff_fleets(old, new).changed == ("a",)


def test_a_moved_folder_changes_only_bots_with_handlers() -> None:
    bots = (bot("a", 1), bot("b", 2, handlers="package.module:register"))
    diff = diff_fleets(Fleet(bots=bots, folder="/x"), Fleet(bots=bots, folder="/y"))
    assert (diff.changed, diff.unchanged) == (("b",), ("a",))
