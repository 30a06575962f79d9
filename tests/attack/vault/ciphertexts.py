"""Attacks on sealed values: put elsewhere, changed, cut, or opened with a key that was not meant.

Each returns what came of it: `refused`, or the words that should have stayed secret.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attack.cases import attack
from botctl.errors import VaultError
from botctl.security.master_keys import MasterKeys, new_keys
from botctl.security.vault import Cipher, DataKey, unwrap, wrap

AREA = "vault"
ALICE, BOB = 1001, 1002
SECRET = b"what Bob was told"

_masters = new_keys()
_bobs_key = DataKey.new(BOB, 1)
_bob = Cipher(BOB, [_bobs_key])
_alice = Cipher(ALICE, [DataKey.new(ALICE, 1)])
_sealed = _bob.seal("messages", "text", SECRET)


def _tried(work: Callable[[], bytes]) -> str:
    try:
        return work().decode(errors="replace")
    except VaultError:
        return "refused"


def _worst(outcomes: list[str]) -> str:
    return next((one for one in outcomes if one != "refused"), "refused")


@attack("open another bot's ciphertext, put into one's own row", area=AREA)
def in_another_bots_row() -> str:
    return _tried(lambda: _alice.open("messages", "text", _sealed))


@attack("open another bot's ciphertext even with its key, put into one's own row", area=AREA)
def in_another_bots_row_with_the_key() -> str:
    stolen = Cipher(ALICE, [DataKey(ALICE, 1, _bobs_key.material)])
    return _tried(lambda: stolen.open("messages", "text", _sealed))


@attack("read one's own ciphertext in another column or table", area=AREA)
def in_another_column() -> str:
    tries = [("messages", "entities"), ("inbox", "payload"), ("bot_secrets", "sealed:token")]
    return _worst([_tried(partial(_bob.open, table, column, _sealed)) for table, column in tries])


@attack("change a ciphertext, its header or its length", area=AREA)
def changed() -> str:
    forged = [_sealed[:at] + bytes([_sealed[at] ^ 1]) + _sealed[at + 1 :] for at in range(len(_sealed))]
    forged += [_sealed[:length] for length in range(len(_sealed))]
    forged.append(_sealed + b"\0")
    return _worst([_tried(partial(_bob.open, "messages", "text", one)) for one in forged])


@attack("have control unwrap another bot's data key for oneself", area=AREA)
def key_in_another_bots_row() -> str:
    wrapped = wrap(_masters.current, _bobs_key)
    return _tried(lambda: unwrap(_masters, ALICE, 1, wrapped).material)


@attack("unwrap data keys of the database without its master key", area=AREA)
def with_another_master_key() -> str:
    wrapped = wrap(_masters.current, _bobs_key)
    other: MasterKeys = new_keys()
    return _tried(lambda: unwrap(other, BOB, 1, wrapped).material)
