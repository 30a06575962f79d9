"""What `/metrics` says of the readers of the bus: how far behind each is, and what it has lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

_LABELS = ["reader", "log"]


@dataclass(frozen=True, slots=True)
class ReaderSample:
    """One reader of a log, or of its mailbox (`log` empty): `unread` and `pending` entries, `seconds` of the oldest."""

    reader: str
    log: str
    unread: int
    pending: int
    seconds: float


@dataclass(frozen=True)
class BusSample:
    """The bus at one moment. `dropped`: entries lost unread, by reader; `forgotten`: rows pruned, by table."""

    readers: Iterable[ReaderSample] = ()
    logs: Mapping[str, int] = field(default_factory=dict)
    dead_letters: int | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    forgotten: Mapping[str, int] = field(default_factory=dict)


def bus_families(sample: BusSample) -> Iterator[Metric]:
    """For `metrics.render`."""
    entries = GaugeMetricFamily("botctl_bus_lag_entries", "Events a reader has not acknowledged.", labels=_LABELS)
    seconds = GaugeMetricFamily("botctl_bus_lag_seconds", "Age of the oldest of these.", labels=_LABELS)
    pending = GaugeMetricFamily("botctl_bus_pending_entries", "Of these, handed out already.", labels=_LABELS)
    for one in sample.readers:
        entries.add_metric([one.reader, one.log], one.unread + one.pending)
        seconds.add_metric([one.reader, one.log], one.seconds)
        pending.add_metric([one.reader, one.log], one.pending)
    yield from (entries, seconds, pending)
    logs = GaugeMetricFamily("botctl_bus_log_entries", "Events that a log keeps.", labels=["log"])
    for log, count in sample.logs.items():
        logs.add_metric([log], count)
    yield logs
    if sample.dead_letters is not None:
        yield GaugeMetricFamily("botctl_bus_dead_letters", "Events the bus has given up.", value=sample.dead_letters)
    dropped = CounterMetricFamily("botctl_bus_dropped_unread", "Events that went unread, by reader.", labels=["reader"])
    for reader, count in sample.dropped.items():
        dropped.add_metric([reader], count)
    yield dropped
    forgotten = CounterMetricFamily("botctl_rows_forgotten", "Rows done with and deleted.", labels=["table"])
    for table, count in sample.forgotten.items():
        forgotten.add_metric([table], count)
    yield forgotten
