"""What `/metrics` says, made of plain figures at the moment it is asked.

Holds no state and keeps no registry: whoever serves `/metrics` gathers a `FleetSample` and renders it. Counters begin
at 0 with each incarnation of a bot, which Prometheus takes for the reset it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


@dataclass(frozen=True, kw_only=True)
class BotSample:
    """One bot. `gauges` and `counters` are those of its heartbeat; unknown names are left out.

    `telegram_pending` is how many updates Telegram holds for it, None when nobody knows.
    """

    name: str
    bot_id: int
    state: str
    restarts: int = 0
    telegram_pending: int | None = None
    parked_s: float | None = None
    """Seconds for which updates may have been waiting at Telegram; None when nobody knows."""
    gauges: Mapping[str, float] = field(default_factory=dict)
    counters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ServiceSample:
    """A supervised server, or control itself."""

    name: str
    state: str
    restarts: int = 0


@dataclass(frozen=True, kw_only=True)
class FleetSample:
    """The fleet at one moment. `bus` are figures of the router, see `_BUS_COUNTERS` and `_BUS_GAUGES`.

    `breaker_open`: restarts are held back. `supervisor` are its own gauges, see `_SUPERVISOR`.
    """

    version: str
    state: str
    uptime_s: float
    bots: Iterable[BotSample] = ()
    services: Iterable[ServiceSample] = ()
    bus: Mapping[str, float] = field(default_factory=dict)
    breaker_open: bool = False
    supervisor: Mapping[str, float] = field(default_factory=dict)
    threats: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Verdicts of threat detection, by rule and action."""
    shut_away: int = 0


_UP = frozenset({"running", "degraded"})

# name in the heartbeat -> metric, help, factor
_GAUGES: Mapping[str, tuple[str, str, float]] = {
    "inbox_depth": ("inbox_depth", "Updates and events stored and not worked off.", 1),
    "outbox_depth": ("outbox_depth", "Events not relayed to Redis yet.", 1),
    "pss_mb": ("pss_bytes", "Memory of the process: its own and its share of what it shares.", 1024 * 1024),
    "own_mb": ("own_memory_bytes", "Memory beyond what the process had at its fork: what memory_soft limits.", 1e6),
    "lanes": ("lanes", "Chats being worked on.", 1),
    "last_poll_age_s": ("last_poll_age_seconds", "Since the last answer to getUpdates.", 1),
    "last_commit_age_s": ("last_commit_age_seconds", "Since updates were last committed, or the bot began.", 1),
    "heartbeat_age_s": ("heartbeat_age_seconds", "Since the last heartbeat.", 1),
    "dead_letters": (
        "dead_letters_waiting",
        "Updates, events and jobs given up that nobody has retried or dropped.",
        1,
    ),
}
# name in the heartbeat -> metric (without _total), help, further labels
_COUNTERS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "updates": ("updates", "Updates received from Telegram and stored.", {}),
    "messages_in": ("messages", "Messages stored.", {"direction": "in"}),
    "messages_out": ("messages", "Messages stored.", {"direction": "out"}),
    "completions": ("completions", "Answers of the completion API.", {}),
    "tokens": ("completion_tokens", "Tokens of completions, in and out, as the API counts them.", {}),
    "tokens_in": ("completion_input_tokens", "Input tokens of completions, cached ones included.", {}),
    "tokens_out": ("completion_output_tokens", "Output tokens of completions.", {}),
    "tokens_cached": ("completion_cached_tokens", "Input tokens that the completion API had in its cache.", {}),
    "completion_cost": ("completion_cost", "What completions have cost, by the prices that are set.", {}),
    "canaries_held_back": ("canaries_held_back", "Messages with the word of a canary, not sent.", {}),
    "ignored": ("updates_ignored", "Updates of users who flood, set aside.", {}),
    "completion_errors": ("completion_errors", "Completions that failed.", {}),
    "dead_letters": ("dead_letters", "Updates and events given up after all attempts.", {}),
    "handled": ("updates_handled", "Updates of users whose handling ended well.", {}),
    "handler_failures": ("handler_failures", "Updates of users whose handling failed or ended in an apology.", {}),
    "divergences": ("divergences", "Replayed handler calls that differed from the journal.", {}),
    "sends_uncertain": ("sends_uncertain", "Sends of which nobody knows whether Telegram had them.", {}),
    "sends_held_back": ("sends_held_back", "Calls that carried a token or key and were not made.", {}),
    "chats_unreachable": ("chats_unreachable", "Chats that were found to be unreachable: blocked, deactivated.", {}),
    "events_relayed": ("events_relayed", "Events brought to Redis.", {}),
}
# name in the supervisor's snapshot -> metric, help, factor
_SUPERVISOR: Mapping[str, tuple[str, str, float]] = {
    "starting": ("starting", "Bots whose turn to start is used.", 1),
    "waiting_to_start": ("waiting_to_start", "Bots that wait for their turn to start.", 1),
    "held_back": ("held_back", "Bots whose restart the fleet breaker holds back.", 1),
    "longest_turn_ms": ("longest_turn_seconds", "The longest turn of the supervisor's loop so far.", 1e-3),
    "longest_turn_own_ms": ("longest_turn_own_seconds", "The same without the time it waited for a processor.", 1e-3),
    "open_files": ("open_files", "Descriptors that the supervisor has open.", 1),
    "threads": ("threads", "Threads of the supervisor.", 1),
}
_BUS_COUNTERS: Mapping[str, str] = {
    "routed": "Events routed to the logs.",
    "delivered": "Deliveries to mailboxes.",
    "rejected": "Events refused and put to the dead letters.",
    "duplicates": "Events relayed more than once and recognised.",
    "dropped": "Events cut off streams that had grown too large.",
    "replaced_streams": "Out streams made unusable and begun again.",
    "vanished": "Events that bots have cut off their own out streams before they were routed.",
    "paused_bots": "How often a bot was kept off Redis for a while because it took too much of it.",
    "requests": "Requests of bots delivered to other bots.",
    "replies": "Replies delivered to who has asked.",
    "refused_requests": "Requests answered with an error at once.",
    "expired_requests": "Requests too late to be delivered, and replies that nobody waited for any more.",
    "remade_mailboxes": "Mailboxes that were missing and were made again.",
    "group_taken_over": "Entries of groups handed out anew because a member had left them.",
    "group_given_up": "Entries of groups that became dead letters.",
}
_BUS_GAUGES: Mapping[str, str] = {
    "healthy": "1 while events are routed.",
    "doorbell": "1 while keyspace notifications work.",
}


def render(sample: FleetSample, extra: Iterable[Metric] = ()) -> bytes:
    """The body of an answer to GET /metrics, in the Prometheus text format (`CONTENT_TYPE`)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(sample, list(extra)))
    return generate_latest(registry)


class _Snapshot(Collector):
    """Gives prometheus_client what one sample says."""

    def __init__(self, sample: FleetSample, extra: list[Metric]) -> None:
        self._sample = sample
        self._extra = extra

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from _fleet(self._sample)
        bots = list(self._sample.bots)
        yield from _lives(bots)
        yield from _gauges(bots)
        yield from _counters(bots)
        yield from _bus(self._sample.bus)
        yield from self._extra


def _fleet(sample: FleetSample) -> Iterator[Metric]:
    build = GaugeMetricFamily("botctl_build_info", "The version that runs.", labels=["version"])
    build.add_metric([sample.version], 1)
    yield build
    state = GaugeMetricFamily("botctl_daemon_state", "1 for the state the daemon is in.", labels=["state"])
    state.add_metric([sample.state], 1)
    yield state
    yield GaugeMetricFamily("botctl_uptime_seconds", "Since the daemon was started.", value=sample.uptime_s)
    yield GaugeMetricFamily(
        "botctl_breaker_open", "1 while the fleet breaker holds restarts back.", value=float(sample.breaker_open)
    )
    for key, (name, text, factor) in _SUPERVISOR.items():
        if key in sample.supervisor:
            yield GaugeMetricFamily(f"botctl_supervisor_{name}", text, value=sample.supervisor[key] * factor)
    threats = CounterMetricFamily("botctl_threats_detected", "Verdicts of threat detection.", labels=["rule", "action"])
    for labels, count in sample.threats.items():
        threats.add_metric(labels, count)
    yield threats
    yield GaugeMetricFamily(
        "botctl_bots_shut_away", "Bots in a quarantine that was wished for.", value=sample.shut_away
    )
    up = GaugeMetricFamily("botctl_service_up", "1 while a supervised server runs.", labels=["service"])
    restarts = CounterMetricFamily("botctl_service_restarts", "Restarts of a supervised server.", labels=["service"])
    for service in sample.services:
        up.add_metric([service.name], float(service.state in _UP))
        restarts.add_metric([service.name], service.restarts)
    yield up
    yield restarts


def _lives(bots: list[BotSample]) -> Iterator[Metric]:
    up = GaugeMetricFamily("botctl_bot_up", "1 while the bot answers (running or degraded).", labels=["bot"])
    state = GaugeMetricFamily("botctl_bot_state", "1 for the state the bot is in.", labels=["bot", "state"])
    info = GaugeMetricFamily("botctl_bot_info", "The bot's id at Telegram.", labels=["bot", "bot_id"])
    restarts = CounterMetricFamily("botctl_bot_restarts", "Restarts since the daemon was started.", labels=["bot"])
    pending = GaugeMetricFamily(
        "botctl_telegram_pending_updates", "Updates that Telegram holds for the bot, kept for 24 hours.", labels=["bot"]
    )
    parked = GaugeMetricFamily(
        "botctl_bot_parked_seconds",
        "Seconds for which updates may have been waiting at Telegram, which drops them after 86400.",
        labels=["bot"],
    )
    for bot in bots:
        if bot.parked_s is not None:
            parked.add_metric([bot.name], bot.parked_s)
        up.add_metric([bot.name], float(bot.state in _UP))
        state.add_metric([bot.name, bot.state], 1)
        info.add_metric([bot.name, str(bot.bot_id)], 1)
        restarts.add_metric([bot.name], bot.restarts)
        if bot.telegram_pending is not None:
            pending.add_metric([bot.name], bot.telegram_pending)
    yield from (up, state, info, restarts, pending, parked)


def _gauges(bots: list[BotSample]) -> Iterator[Metric]:
    for key, (name, text, factor) in _GAUGES.items():
        family = GaugeMetricFamily(f"botctl_bot_{name}", text, labels=["bot"])
        for bot in bots:
            if key in bot.gauges:
                family.add_metric([bot.name], bot.gauges[key] * factor)
        yield family


def _counters(bots: list[BotSample]) -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily] = {}
    for key, (name, text, labels) in _COUNTERS.items():
        family = families.get(name)
        if family is None:
            family = families[name] = CounterMetricFamily(f"botctl_{name}", text, labels=["bot", *labels])
        for bot in bots:
            if key in bot.counters:
                family.add_metric([bot.name, *labels.values()], bot.counters[key])
    yield from families.values()


def _bus(figures: Mapping[str, float]) -> Iterator[Metric]:
    for key, text in _BUS_COUNTERS.items():
        if key in figures:
            yield CounterMetricFamily(f"botctl_bus_{key}", text, value=figures[key])
    for key, text in _BUS_GAUGES.items():
        if key in figures:
            yield GaugeMetricFamily(f"botctl_bus_{key}", text, value=float(figures[key]))
