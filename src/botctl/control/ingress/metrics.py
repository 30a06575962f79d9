"""The ingress's figures for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from botctl.control.ingress.figures import BOUNDS, Figures
from botctl.control.ingress.room import Room

WHY = ("stranger", "busy", "large", "slow", "away", "odd")
"""Why requests were refused: no secret, too many at once, too large, too slow, not to be stored now, no update."""


def families(figures: Figures, room: Room, names: Mapping[int, str]) -> Iterator[Metric]:
    """`names` are the bots of the fleet, by bot_id."""
    stored = CounterMetricFamily("botctl_webhook_stored", "Updates that Telegram sent and were stored.", labels=["bot"])
    repeated = CounterMetricFamily("botctl_webhook_repeated", "Updates sent once more.", labels=["bot"])
    for bot_id, name in names.items():
        if figures.newest_seen.get(bot_id) is not None or figures.stored[bot_id]:
            stored.add_metric([name], figures.stored[bot_id])
            repeated.add_metric([name], figures.repeated[bot_id])
    yield from (stored, repeated)
    refused = CounterMetricFamily("botctl_webhook_refused", "Requests not answered with 200, by why.", labels=["why"])
    for why in WHY:
        refused.add_metric([why], figures.refused[why])
    yield refused
    yield CounterMetricFamily(
        "botctl_webhook_connections_pushed_out", "Connections closed for others.", value=figures.pushed_out
    )
    yield GaugeMetricFamily("botctl_webhook_requests", "Requests with a secret under way.", value=room.requests)
    counts = list(accumulate(figures.latencies))
    buckets = [(str(bound), float(count)) for bound, count in zip((*BOUNDS, "+Inf"), counts, strict=True)]
    latency = HistogramMetricFamily("botctl_webhook_seconds", "From a request with a secret to its answer.")
    latency.add_metric([], buckets, figures.latency_sum)
    yield latency
