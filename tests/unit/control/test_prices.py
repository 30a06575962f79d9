"""What completions cost: by set prices only, with cached tokens, by names with and without a date."""

from __future__ import annotations

import pytest

from botctl.control.prices import Price, Prices

PRICES = Prices({"m": Price(input=1.0, output=10.0, cached=0.1), "plain": Price(input=2.0, output=4.0)})


@pytest.mark.parametrize(
    ("model", "tokens", "cost"),
    [
        ("m", (1_000_000, 0, None), 1.0),
        ("m", (0, 100_000, None), 1.0),
        ("m", (1_000_000, 0, 1_000_000), 0.1),
        ("m", (1_000_000, 0, 5_000_000), 0.1),  # more cached than there were: a server's mistake
        ("m-2026-01-31", (1_000_000, 0, None), 1.0),
        ("m-20260131", (1_000_000, 0, None), 1.0),
        ("plain", (500_000, 250_000, 500_000), 2.0),  # cached ones cost what others do
        ("m-large", (1_000_000, 0, None), None),
        ("unknown", (1, 1, None), None),
        ("m", (None, 1, None), None),
    ],
)
def test_the_cost_of_tokens(model: str, tokens: tuple[int | None, int | None, int | None], cost: float | None) -> None:
    found = PRICES.cost(model, *tokens)
    assert found == (None if cost is None else pytest.approx(cost))


def test_prices_come_from_the_daemons_options_and_none_are_invented() -> None:
    told = Prices.of_options({"prices": {"m": {"input": 1, "output": 2, "cached": None}}, "currency": "EUR"})
    assert told.find("m") == Price(1.0, 2.0)
    assert told.currency == "EUR"
    assert Prices.of_options({}).models == {}
