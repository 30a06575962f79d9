"""Whether rows and messages are as a step demands; sentences about what is not. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from chaos.journal.steps import Mode, Step, Trial


@dataclass(frozen=True)
class Row:
    """One row of the journal. `answered`: Telegram's answer is in it."""

    mode: str
    state: str
    uncertain: int
    text: str
    answered: bool


@dataclass(frozen=True)
class Found:
    """What stands in the database: rows by chat, in the order of their numbers; the state of the chat's update."""

    sends: Mapping[int, list[Row]]
    inbox: Mapping[int, str]


def differs_when_killed(trials: Sequence[Trial], found: Found) -> list[str]:
    """The moment before the process is killed."""
    return [what for trial in trials for what in _when_killed(trial, found)]


def differs_in_the_end(trials: Sequence[Trial], found: Found, seen: Mapping[int, Counter[str]]) -> list[str]:
    """When everything is worked off. `seen`: how often users have which text, by chat, in the order of first sight."""
    return [what for trial in trials for what in (*_in_the_end(trial, found), *_for_users(trial, found, seen))]


def _when_killed(trial: Trial, found: Found) -> Iterator[str]:
    states, wanted = [row.state for row in found.sends[trial.chat]], trial.rows_when_killed()
    if states != wanted:
        yield f"{trial}: the rows are {states}, not {wanted}"
    if found.inbox.get(trial.chat) != trial.inbox_when_killed():
        yield f"{trial}: the update is {found.inbox.get(trial.chat)}, not {trial.inbox_when_killed()}"


def _in_the_end(trial: Trial, found: Found) -> Iterator[str]:
    rows = found.sends[trial.chat]
    states = [(row.state, row.uncertain) for row in rows]
    if states != trial.rows_in_the_end():
        yield f"{trial}: the rows are {states}, not {trial.rows_in_the_end()}"
    if any(row.mode != trial.mode.value for row in rows):
        yield f"{trial}: not all rows are {trial.mode.value}"
    if any(row.state == "sent" and not row.answered for row in rows):
        yield f"{trial}: a part is sent without Telegram's answer"
    if found.inbox.get(trial.chat) != "done":
        yield f"{trial}: the update is {found.inbox.get(trial.chat)}"


def _for_users(trial: Trial, found: Found, all_seen: Mapping[int, Counter[str]]) -> Iterator[str]:
    seen = all_seen.get(trial.chat, Counter())
    texts = [row.text.strip() for row in found.sends[trial.chat]]
    if trial.mode is Mode.INLINE:  # of what was never called there are no rows
        texts = [f"{number} of {trial.parts}: m{trial.chat}x" for number in range(trial.parts)]
    counts = [seen[text] for text in texts]
    if counts != trial.seen_in_the_end():
        yield f"{trial}: users have the parts {counts} times, not {trial.seen_in_the_end()}"
    strange = [text for text in seen if text not in texts]
    if strange:
        yield f"{trial}: users have what nobody asked for: {strange}"
    late = trial.step is Step.LATE and not trial.resend  # it comes when the others are there
    if not late and [text for text in texts if text in seen] != [text for text in seen if text in texts]:
        yield f"{trial}: users have the parts in another order"
