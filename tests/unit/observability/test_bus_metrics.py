"""The figures of the bus's readers in the exposition."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from botctl.observability.bus_metrics import BusSample, ReaderSample, bus_families
from botctl.observability.metrics import FleetSample, render


def test_readers_logs_and_losses_are_shown() -> None:
    sample = BusSample(
        readers=[ReaderSample("grant:crm", "bot", 5, 2, 61.5), ReaderSample("bot:a", "", 0, 0, 0.0)],
        logs={"bot": 12},
        dead_letters=3,
        dropped={"grant:crm": 7},
        forgotten={"outbox": 9},
    )
    text = render(FleetSample(version="1", state="running", uptime_s=1.0), bus_families(sample)).decode()
    found = {
        (one.name, *(one.labels[label] for label in ("reader", "log", "table") if label in one.labels)): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }
    assert found["botctl_bus_lag_entries", "grant:crm", "bot"] == 7
    assert found["botctl_bus_pending_entries", "grant:crm", "bot"] == 2
    assert found["botctl_bus_lag_seconds", "grant:crm", "bot"] == 61.5
    assert found["botctl_bus_lag_entries", "bot:a", ""] == 0
    assert found["botctl_bus_log_entries", "bot"] == 12
    assert found["botctl_bus_dead_letters",] == 3
    assert found["botctl_bus_dropped_unread_total", "grant:crm"] == 7
    assert found["botctl_rows_forgotten_total", "outbox"] == 9


def test_what_nobody_knows_is_left_out() -> None:
    text = render(FleetSample(version="1", state="running", uptime_s=1.0), bus_families(BusSample())).decode()
    assert "botctl_bus_dead_letters " not in text
