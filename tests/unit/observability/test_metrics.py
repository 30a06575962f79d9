"""`/metrics` in the form Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from botctl.observability.metrics import BotSample, FleetSample, ServiceSample, render

SAMPLE = FleetSample(
    version="0.1.0",
    state="running",
    uptime_s=12.5,
    bots=[
        BotSample(
            name="support",
            bot_id=7,
            state="running",
            restarts=2,
            gauges={"inbox_depth": 3, "pss_mb": 17.5, "own_mb": 2.5, "unknown": 1},
            counters={"messages_in": 10, "messages_out": 9, "sends_uncertain": 1, "unknown": 1},
        ),
        BotSample(name='odd"name\n', bot_id=8, state="quarantined"),
    ],
    services=[
        ServiceSample(name="postgres", state="running"),
        ServiceSample(name="valkey", state="backoff", restarts=1),
    ],
    bus={"routed": 5, "healthy": True, "unknown": 1},
)


def figures() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(render(SAMPLE).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_bots_figures_carry_its_name() -> None:
    found = figures()
    support = (("bot", "support"),)
    assert found["botctl_bot_up", support] == 1
    assert found["botctl_bot_state", (("bot", "support"), ("state", "running"))] == 1
    assert found["botctl_bot_restarts_total", support] == 2
    assert found["botctl_bot_inbox_depth", support] == 3
    assert found["botctl_bot_pss_bytes", support] == 17.5 * 1024 * 1024
    assert found["botctl_bot_own_memory_bytes", support] == 2_500_000
    assert found["botctl_messages_total", (("bot", "support"), ("direction", "in"))] == 10
    assert found["botctl_messages_total", (("bot", "support"), ("direction", "out"))] == 9
    assert found["botctl_sends_uncertain_total", support] == 1


def test_a_bot_that_does_not_run_is_down_and_an_odd_name_is_escaped() -> None:
    assert figures()["botctl_bot_up", (("bot", 'odd"name\n'),)] == 0


def test_services_the_bus_and_the_daemon_are_there() -> None:
    found = figures()
    assert found["botctl_service_up", (("service", "postgres"),)] == 1
    assert found["botctl_service_up", (("service", "valkey"),)] == 0
    assert found["botctl_bus_routed_total", ()] == 5
    assert found["botctl_bus_healthy", ()] == 1
    assert found["botctl_uptime_seconds", ()] == 12.5
    assert found["botctl_build_info", (("version", "0.1.0"),)] == 1


def test_names_nobody_knows_are_left_out() -> None:
    assert not [name for name, _ in figures() if "unknown" in name]


def test_an_empty_fleet_renders() -> None:
    assert b"botctl_uptime_seconds 0.0" in render(FleetSample(version="1", state="starting", uptime_s=0))
