"""Master keys: from where they come, how they are kept, and what is refused in which words."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from botctl.errors import VaultError
from botctl.security import master_keys
from botctl.security.master_keys import MasterKeys, Source, new_keys, parse

KEY = bytes(range(32))
BASE64 = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        BASE64.rstrip("="),
        KEY.hex(),
        KEY.hex().upper(),
        f"1:{base64.urlsafe_b64encode(KEY).decode()}",
        f"# a comment\n  1:{BASE64}\n",
    ],
)
def test_a_key_is_read_in_every_form_operators_write(text: str) -> None:
    keys = parse(text)
    assert (keys.versions, keys.current.material) == ((1,), KEY)


def test_several_versions_survive_their_text_with_the_current_one_first() -> None:
    keys = new_keys().renewed().renewed()
    assert keys.versions == (3, 2, 1)
    assert parse(keys.text()) == keys
    assert parse(keys.text().replace(",", "\n")) == keys
    assert keys.settled().versions == (3,)
    assert len({key.check for key in keys.keys}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no master key"),
        ("# nothing\n", "no master key"),
        ("1:short", "can't be read"),
        (f"0:{BASE64}", "can't be read"),
        (f"x:{BASE64}", "can't be read"),
        (BASE64[:-4], "can't be read"),
        (f"1:{BASE64},1:{KEY[::-1].hex()}", "same version"),
        (f"2:{BASE64},1:{BASE64}", "are the same"),
        (f"2:{BASE64}é", "can't be read"),
    ],
)
def test_what_is_no_key_is_refused_without_being_shown(text: str, message: str) -> None:
    with pytest.raises(VaultError, match=message) as caught:
        parse(text)
    assert BASE64[:10] not in str(caught.value) + str(caught.value.hint)


def test_the_first_start_makes_a_private_file_and_only_once(tmp_path: Path) -> None:
    assert master_keys.find({}, tmp_path) is None
    made = master_keys.create_file(tmp_path)
    path = tmp_path / "master.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = master_keys.find({}, tmp_path)
    assert found is not None
    assert (found.keys, found.source, found.path) == (made, Source.FILE, path)
    before = path.read_bytes()
    with pytest.raises(VaultError, match="exists already"):
        master_keys.create_file(tmp_path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["master.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    master_keys.create_file(tmp_path)
    (tmp_path / "master.key").chmod(mode)
    with pytest.raises(VaultError, match="open to others") as caught:
        master_keys.find({}, tmp_path)
    assert "chmod 600" in str(caught.value.hint)


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(BASE64)
    (tmp_path / "elsewhere").chmod(0o600)
    (tmp_path / "master.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VaultError, match="can't be read"):
        master_keys.find({}, tmp_path)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    keys = master_keys.create_file(tmp_path)
    master_keys.replace_file(tmp_path, keys.renewed())
    found = master_keys.read_file(tmp_path)
    assert found is not None
    assert found.versions == (2, 1)
    assert found.find(1) == keys.current
    assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["master.key"]


def test_the_credential_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    own = master_keys.create_file(tmp_path)
    credentials, secret = tmp_path / "credentials", tmp_path / "secret"
    credentials.mkdir()
    (credentials / "botctl-master-key").write_text(new_keys().text())
    secret.write_text(new_keys().text())
    secret.chmod(0o640)
    sources = {"CREDENTIALS_DIRECTORY": str(credentials), "BOTCTL_MASTER_KEY": BASE64}

    def source(env: dict[str, str]) -> tuple[Source, MasterKeys]:
        found = master_keys.find(env, tmp_path)
        assert found is not None
        return found.source, found.keys

    assert source(sources)[0] is Source.CREDENTIAL
    assert source({"BOTCTL_MASTER_KEY": BASE64}) == (Source.ENVIRONMENT, parse(BASE64))
    assert source({"BOTCTL_MASTER_KEY_FILE": str(secret)}) == (Source.NAMED_FILE, parse(secret.read_text()))
    for mode in (0o644, 0o660, 0o604):
        secret.chmod(mode)
        with pytest.raises(VaultError, match="BOTCTL_MASTER_KEY_FILE names, is open to others"):
            source({"BOTCTL_MASTER_KEY_FILE": str(secret)})
    (credentials / "botctl-master-key").unlink()
    assert source({"CREDENTIALS_DIRECTORY": str(credentials)}) == (Source.FILE, own)
    for wrong in ({"BOTCTL_MASTER_KEY": "x"}, {"BOTCTL_MASTER_KEY_FILE": str(tmp_path / "none")}):
        with pytest.raises(VaultError, match="can't be read"):
            master_keys.find(wrong, tmp_path)
    with pytest.raises(VaultError, match="both set"):
        master_keys.find({"BOTCTL_MASTER_KEY": BASE64, "BOTCTL_MASTER_KEY_FILE": "x"}, tmp_path)


def test_messages_name_the_variable_that_was_set(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(new_keys().text())
    secret.chmod(0o600)
    found = master_keys.find({"BOTCTL_MASTER_KEY_FILE": str(secret)}, tmp_path)
    assert found is not None
    with pytest.raises(VaultError, match="of the file that BOTCTL_MASTER_KEY_FILE names is not the one"):
        master_keys.at_start(found.keys.text(), found.source.value, [(1, new_keys().current.check)], tmp_path)


def test_a_pipe_may_be_named_too(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, BASE64.encode())
        os.close(writer)
        found = master_keys.find({"BOTCTL_MASTER_KEY_FILE": f"/proc/self/fd/{reader}"}, tmp_path)
    finally:
        os.close(reader)
    assert found is not None
    assert found.keys == parse(BASE64)


def test_what_a_killed_rotation_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    keys = master_keys.create_file(tmp_path)
    (tmp_path / ".master.key.0a1b2c3d").write_text(keys.renewed().text())
    (tmp_path / ".master.keyring").write_text("somebody else's")
    assert master_keys.at_start("", "file", [(1, keys.current.check)], tmp_path) == keys
    assert sorted(os.listdir(tmp_path)) == [".master.keyring", "master.key"]


def test_a_lost_a_wrong_and_a_missing_key_are_told_apart() -> None:
    keys = new_keys()
    in_use = [(1, keys.current.check)]
    master_keys.verify(None, [], "file")
    master_keys.verify(keys, in_use, "file")
    master_keys.verify(keys.renewed(), in_use, "file")
    for given, message in (
        (None, "master key is lost"),
        (new_keys(), "master key is another one"),
        (keys.renewed().settled(), "master key version 1 is missing"),
    ):
        with pytest.raises(VaultError, match=message) as caught:
            master_keys.verify(given, in_use, "/data/master.key")
        assert caught.value.hint
        assert caught.value.exit_code == 1
    with pytest.raises(VaultError, match="master key is another one"):
        master_keys.verify(keys, [*in_use, (1, new_keys().current.check)], "file")


def test_the_check_tells_nothing_of_the_key() -> None:
    key = parse(BASE64).current
    assert len(key.check) == 32
    assert key.check not in (KEY.hex(), BASE64)


def test_a_start_makes_a_key_only_where_nothing_is_sealed(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="is lost"):
        master_keys.at_start("", "file", [(1, "check")], tmp_path)
    assert os.listdir(tmp_path) == []
    made = master_keys.at_start("", "file", [], tmp_path)
    assert master_keys.read_file(tmp_path) == made
    in_use = [(1, made.current.check)]
    assert master_keys.at_start(made.text(), "file", in_use, tmp_path) == made
    assert master_keys.at_start("", "file", in_use, tmp_path) == made, "a demo's daemon is given none"


def test_a_given_key_is_taken_before_the_files_and_none_is_made_beside_it(tmp_path: Path) -> None:
    given = new_keys()
    assert master_keys.at_start(given.text(), "environment", [], tmp_path) == given
    assert os.listdir(tmp_path) == []
    with pytest.raises(VaultError, match="version 1 of BOTCTL_MASTER_KEY is not the one"):
        master_keys.at_start(new_keys().text(), "environment", [(1, given.current.check)], tmp_path)
    with pytest.raises(VaultError, match="the credential botctl-master-key"):
        master_keys.at_start(new_keys().text(), "credential", [(1, given.current.check)], tmp_path)


def test_a_folder_that_is_not_there_holds_no_key(tmp_path: Path) -> None:
    assert master_keys.find({}, tmp_path / "none") is None
    (tmp_path / "file").touch()
    assert master_keys.find({}, tmp_path / "file") is None
