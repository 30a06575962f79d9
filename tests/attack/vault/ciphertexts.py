"""Attacks on sealed values: put elsewhere, changed, cut, or opened with a key that was not meant.

Each returns what came of it: `refused`, or the words that should have stayed secret.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attack.cases import attack
from botctl.errors import VaultError
from botctl.security import master_keys
from botctl.security.vault import Cipher, DataKey, unwrap, wrap

AREA = "vault"
ALICE, BOB = 1001, 1002
SECRET = b"what Bob was told"


class Stage:
    """Two bots with a data key each, a value that Bob has sealed, and the master key."""

    def __init__(self) -> None:
        self.masters = master_keys.new_keys()
        self.bobs_key = DataKey.new(BOB, 1)
        self.bob = Cipher(BOB, [self.bobs_key])
        self.alice = Cipher(ALICE, [DataKey.new(ALICE, 1)])
        self.sealed = self.bob.seal("messages", "text", SECRET)


def _tried(work: Callable[[], bytes]) -> str:
    try:
        return work().decode(errors="replace")
    except VaultError:
        return "refused"


def _worst(outcomes: list[str]) -> str:
    return next((one for one in outcomes if one != "refused"), "refused")


@attack("open another bot's ciphertext, put into one's own row", area=AREA)
def in_another_bots_row() -> str:
    stage = Stage()
    return _tried(lambda: stage.alice.open("messages", "text", stage.sealed))


@attack("open another bot's ciphertext even with its key, put into one's own row", area=AREA)
def in_another_bots_row_with_the_key() -> str:
    stage = Stage()
    stolen = Cipher(ALICE, [DataKey(ALICE, 1, stage.bobs_key.material)])
    return _tried(lambda: stolen.open("messages", "text", stage.sealed))


@attack("read one's own ciphertext in another column or table", area=AREA)
def in_another_column() -> str:
    stage = Stage()
    tries = [("messages", "entities"), ("inbox", "payload"), ("bot_secrets", "sealed:token")]
    return _worst([_tried(partial(stage.bob.open, table, column, stage.sealed)) for table, column in tries])


@attack("change a ciphertext, its header or its length", area=AREA)
def changed() -> str:
    stage = Stage()
    sealed = stage.sealed
    forged = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    forged += [sealed[:length] for length in range(len(sealed))]
    forged.append(sealed + b"\0")
    return _worst([_tried(partial(stage.bob.open, "messages", "text", one)) for one in forged])


@attack("have control unwrap another bot's data key for oneself", area=AREA)
def key_in_another_bots_row() -> str:
    stage = Stage()
    wrapped = wrap(stage.masters.current, stage.bobs_key)
    return _tried(lambda: unwrap(stage.masters, ALICE, 1, wrapped).material)


@attack("unwrap data keys of the database without its master key", area=AREA)
def with_another_master_key() -> str:
    stage = Stage()
    wrapped = wrap(stage.masters.current, stage.bobs_key)
    return _tried(lambda: unwrap(master_keys.new_keys(), BOB, 1, wrapped).material)
