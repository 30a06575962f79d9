"""The restart policies of the supervisor's children: the fleet file's for bots, fixed ones for everybody else.

Nothing is decided by them here; that is `supervision`'s.
"""

from __future__ import annotations

from botctl.handover import ExecSpec
from botctl.runtime import messages
from botctl.supervision.model import Policy


def bot_policy(policy: messages.RestartPolicy) -> Policy:
    """The fleet file's restart policy as supervision has it."""
    return Policy(
        intensity=policy.intensity,
        period=policy.period,
        first_delay=policy.first_delay,
        max_delay=policy.max_delay,
        stop_timeout=policy.stop_timeout,
        ready_timeout=policy.ready_timeout,
        heartbeat_timeout=policy.heartbeat_timeout,
        memory_soft=policy.memory_soft / 1e6,
        max_age=policy.max_age,
        max_updates=policy.max_updates,
    )


CONTROL_POLICY = Policy(intensity=None, first_delay=0.1, max_delay=5.0, stop_timeout=5.0, ready_timeout=90.0)
"""`control` is always tried again; the bots run on without it."""

SETUP_POLICY = Policy(intensity=0, ready_timeout=300.0, heartbeat_timeout=None, stop_timeout=5.0)
"""Set-up happens once; its failure is the daemon's."""


def service_policy(spec: ExecSpec) -> Policy:
    """Embedded servers have no heartbeat and are always tried again."""
    return Policy(
        intensity=None, first_delay=0.05, max_delay=2.0, stop_timeout=spec.stop_timeout, heartbeat_timeout=None
    )
