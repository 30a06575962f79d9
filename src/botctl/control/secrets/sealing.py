"""How `control` reads and writes rows of a bot: sealed with the bot's keys, as the bot itself does."""

from __future__ import annotations

from botctl.control.secrets.vault import Vault
from botctl.fleet import BotSpec
from botctl.security.vault import Cipher
from botctl.storage.sealing import Sealing


def sealing_of(vault: Vault, bot: BotSpec) -> Sealing:
    """How rows of a bot are stored, and opened again. Raises VaultError for one that encrypts and has no key."""
    if bot.encrypt_messages:
        return Sealing(vault.cipher(bot.bot_id), seals=True)
    return opening_of(vault, bot.bot_id)


def opening_of(vault: Vault, bot_id: int) -> Sealing:
    """What opens rows of a bot with the keys there are, whether it seals new ones or not."""
    return Sealing(Cipher(bot_id, vault.keys(bot_id)))
