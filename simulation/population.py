"""What only many schedules together can show: that delays and recyclings are spread, and not the same for all."""

from __future__ import annotations

from collections.abc import Iterable


class Population:
    """Counts fractions in tenths: of delays between their half and their whole, of recyclings round their limit."""

    def __init__(self) -> None:
        self.delays = [0] * 11
        self.recyclings = [0] * 5

    def take(self, fractions: Iterable[float], spreads: Iterable[float]) -> None:
        """Those of one schedule."""
        for fraction in fractions:
            self.delays[int((fraction - 0.5) * 20)] += 1
        for spread in spreads:
            self.recyclings[min(4, max(0, int((spread - 0.9) * 20)))] += 1

    def add(self, other: Population) -> None:
        """Those of others."""
        self.delays = [mine + more for mine, more in zip(self.delays, other.delays, strict=True)]
        self.recyclings = [mine + more for mine, more in zip(self.recyclings, other.recyclings, strict=True)]

    def wrong(self) -> list[str]:
        """What is wrong with the spread; nothing is said of too few."""
        found = []
        delays = sum(self.delays[:10])
        if delays >= 2000 and not all(0.7 < 10 * part / delays < 1.3 for part in self.delays[:10]):
            found.append(f"delays are not spread evenly between half and whole: {self.delays}")
        recyclings = sum(self.recyclings)
        if recyclings >= 200 and not all(8 * part > recyclings for part in self.recyclings[1:4]):
            found.append(f"recyclings are not spread round their limit: {self.recyclings}")
        return found
