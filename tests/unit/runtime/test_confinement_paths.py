"""Which paths a bot is allowed, and which stay closed although they stand beneath one that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from botctl.runtime.confinement import paths
from botctl.runtime.confinement.landlock import KEEP, LIST, READ, RUN, Access
from botctl.runtime.messages import Isolation


def allowed(rules: list[paths.Rule], path: Path) -> Access:
    """What Landlock would make of the rules: the rights of a path and of all folders above it, together."""
    found = Access(0)
    for rule in rules:
        if Path(rule.path) in (path, *path.parents):
            found |= rule.access
    return found


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A fleet's folder, with all kinds of things in it."""
    folder = tmp_path / "fleet"
    for name in ("shop/deep", ".git", "data/logs", "data/bots/7", "secrets"):
        (folder / name).mkdir(parents=True)
    for name in ("fleet.yaml", "bot.py", ".env", "shop/deep/prices.json", "secrets/a.token", "secrets/readme"):
        (folder / name).write_text("x")
    (tmp_path / "models").mkdir()
    (folder / "models").symlink_to(tmp_path / "models")
    (folder / "link.py").symlink_to(folder / "fleet.yaml")
    (folder / "up").symlink_to(tmp_path)
    return folder


def rules_of(folder: Path, **more: list[str]) -> list[paths.Rule]:
    private = [str(folder / "fleet.yaml"), str(folder / "secrets/a.token")]
    data = str(folder / "data")
    wish = Isolation(folder=str(folder), private=private, data=data, home=f"{data}/bots/7", **more)
    return list(paths.rules(wish, "", "", shared_memory=False))


def test_handlers_and_what_stands_beside_them_can_be_read(fleet: Path, tmp_path: Path) -> None:
    rules = rules_of(fleet)
    for name in ("bot.py", "shop/deep/prices.json", "secrets/readme"):
        assert allowed(rules, fleet / name) == RUN, name
    assert allowed(rules, tmp_path / "models/one") == RUN, "what a link beside the handlers leads to"


def test_what_is_private_stays_closed(fleet: Path, tmp_path: Path) -> None:
    rules = rules_of(fleet)
    for name in ("fleet.yaml", ".env", ".git/config", "secrets/a.token", "data/master.key", "data/logs/b.log"):
        assert allowed(rules, fleet / name) in (LIST, Access(0)), name
    assert allowed(rules, tmp_path / "elsewhere") == Access(0), "a link to a folder above opens nothing"


SECRET = ("fleet.yaml~", "fleet.yaml.2", "fleet.yaml-old", "#bot#", "prod.env", "Old.BAK", "x.orig", "a.key", "ca.pem")


def test_what_is_secret_by_its_name_is_closed_right_beside_the_fleet_file(fleet: Path, tmp_path: Path) -> None:
    ordinary = ("fleet.yaml.py", "environment", "monkey", "bot.pem.txt", "shop/ca.pem")
    for name in (*SECRET, *ordinary, "a-name-before", "z-name-after"):
        (fleet / name).write_text("x")
    for name in ("a-name-before", "z-name-after"):
        (fleet / name).unlink()
        (fleet / name).symlink_to("prod.env")
    rules = rules_of(fleet)
    for name in SECRET:
        assert allowed(rules, fleet / name) == LIST, name
    for name in ordinary:
        assert allowed(rules, fleet / name) == RUN, name
    opened = rules_of(fleet, read=[str(fleet / "ca.pem")])
    assert allowed(opened, fleet / "ca.pem") == RUN, "named by its path"
    assert allowed(opened, fleet / "a.key") == LIST


def test_what_is_closed_besides_is_left_out_of_folders_that_are_allowed(fleet: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / "models" / name).write_text("x")
    closed = [str(fleet / "shop/deep"), str(tmp_path / "models/one")]
    wish = Isolation(folder=str(fleet), private=[str(fleet / "fleet.yaml")], read=[str(tmp_path / "models")])
    rules = list(paths.rules(wish, "", "", shared_memory=False, closed=closed))
    for path in (fleet / "shop/deep/prices.json", tmp_path / "models/one"):
        assert allowed(rules, path) == LIST, path
    for path in (fleet / "bot.py", tmp_path / "models/other"):
        assert allowed(rules, path) == RUN, path


def test_names_can_be_listed_as_an_import_needs_it(fleet: Path) -> None:
    assert allowed(rules_of(fleet), fleet) == LIST


def test_only_its_own_folder_can_be_written(fleet: Path) -> None:
    rules = rules_of(fleet)
    assert allowed(rules, fleet / "data/bots/7/x") == KEEP | LIST
    assert not allowed(rules, fleet / "data/bots/8/x") & (READ ^ LIST)
    writable = {rule.path for rule in rules if rule.access & Access.MAKE_REG}
    assert writable == {str(fleet / "data/bots/7")}


def test_the_fleet_file_may_allow_more_but_nothing_private(fleet: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    rules = rules_of(fleet, read=[str(tmp_path)], write=[str(fleet / "shop")])
    assert allowed(rules, tmp_path / "elsewhere") == RUN
    assert allowed(rules, fleet / "shop/deep/prices.json") & KEEP == KEEP
    for name in ("fleet.yaml", "secrets/a.token", "data/master.key"):
        assert allowed(rules, fleet / name) == LIST, name


def test_handlers_that_stand_in_the_data_folder_itself_are_found(tmp_path: Path) -> None:
    for name in ("run", "logs", "bots/7", "bots/8"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("api.token", "bot.py", "fleet.yaml"):
        (tmp_path / name).write_text("x")
    wish = Isolation(folder=str(tmp_path), private=[str(tmp_path / "fleet.yaml")], data=str(tmp_path))
    rules = list(paths.rules(wish, "", "", shared_memory=False))
    assert allowed(rules, tmp_path / "bot.py") == RUN
    for name in ("api.token", "fleet.yaml", "run/daemon.json", "logs/a.log", "bots/8/x"):
        assert allowed(rules, tmp_path / name) == LIST, name


def test_shared_memory_only_where_others_are_kept_out_by_their_uid(tmp_path: Path) -> None:
    wish = Isolation(home=str(tmp_path))
    for mine in (True, False):
        rules = list(paths.rules(wish, "", "", shared_memory=mine))
        assert (paths.Rule("/dev/shm", KEEP) in rules) is mine
