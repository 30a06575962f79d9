"""What changes from one fleet to the next: a value for `apply` to show and to perform. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from botctl.fleet.model import BotSpec, Fleet


@dataclass(frozen=True)
class FleetDiff:
    """Bots by name, in the order of the new fleet (`removed`: of the old one)."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    groups: tuple[str, ...] = ()
    """Groups that are new, gone, or subscribe to something else; no bot is restarted for what they subscribe to."""

    @property
    def empty(self) -> bool:
        """Whether applying would do nothing."""
        return not (self.added or self.removed or self.changed or self.groups)


def diff_fleets(old: Fleet, new: Fleet) -> FleetDiff:
    """Compare by bot_id, the identity: a renamed bot is changed, a bot whose token's id differs is another bot."""
    before: dict[int, BotSpec] = {bot.bot_id: bot for bot in old.bots}
    after: dict[int, BotSpec] = {bot.bot_id: bot for bot in new.bots}
    moved = old.folder != new.folder
    kept = [bot for bot in new.bots if bot.bot_id in before]
    changed = [bot for bot in kept if _differs(before[bot.bot_id], bot, moved)]
    return FleetDiff(
        added=tuple(bot.name for bot in new.bots if bot.bot_id not in before),
        removed=tuple(bot.name for bot in old.bots if bot.bot_id not in after),
        changed=tuple(bot.name for bot in changed),
        unchanged=tuple(bot.name for bot in kept if bot not in changed),
        groups=tuple(
            name
            for name in sorted(old.groups.keys() | new.groups.keys())
            if old.groups.get(name) != new.groups.get(name)
        ),
    )


def _differs(old: BotSpec, new: BotSpec, folder_moved: bool) -> bool:
    return old != new or (folder_moved and new.handlers is not None)
