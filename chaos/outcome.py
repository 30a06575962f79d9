"""What came of one fault, and whether its victim's deaths are told as what they were. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chaos.faults import OTHERS, Fault
from chaos.plan import Step
from chaos.waiting import BACK_WITHIN


@dataclass
class Outcome:
    """What came of one step. `began`: seconds since the epoch; the others are seconds after it, None when unknown."""

    step: Step
    began: float
    name: str = ""
    detected: float | None = None
    recovered: float | None = None
    sound: float | None = None
    deaths: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    @property
    def fault(self) -> Fault:
        """What was done."""
        return self.step.fault

    @property
    def ended(self) -> float:
        """When its victim was sound again, in seconds since the epoch."""
        return self.began + (self.sound if self.sound is not None else BACK_WITHIN)


def judge(outcome: Outcome, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Note what the deaths are told as and should not be; `before` and `after` are its status then."""
    fault = outcome.fault
    told = [death for death in outcome.deaths if death["failure"] is not None]
    expected = [death for death in told if death["failure"] == fault.failure]
    for death in told:
        if death["failure"] not in {fault.failure, *OTHERS.get(fault.name, ())} - {""}:
            told_as = f"{death['failure']} ({death['exit']}, {death['cause']})"
            outcome.violations.append(f"a death is told as {told_as}, not as {fault.failure or 'none'}")
    if len(expected) < min(fault.deaths, 1):
        outcome.violations.append(f"no death is told as {fault.failure}: {[one['failure'] for one in told]}")
    for death in expected:
        if fault.exit and death["exit"] != fault.exit:
            outcome.violations.append(f"a death is told with {death['exit']}, not {fault.exit}")
        if fault.stacks and fault.stacks not in death["stacks"]:
            outcome.violations.append(f"the stacks don't say {fault.stacks!r}: {death['stacks'][:300]!r}")
        if fault.told not in death["cause"]:
            outcome.violations.append(f"the cause doesn't say {fault.told!r}: {death['cause']!r}")
    if not fault.deaths and not told and fault.name != "threads_left" and before["pid"] != after["pid"]:
        outcome.violations.append("it is another process now, though nobody should have died")
    if outcome.sound is not None and outcome.sound > BACK_WITHIN:
        outcome.violations.append(f"it needed {outcome.sound:.1f} s")
