"""A figure: the ratio of what the product does to what a baseline does, measured in turns."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median

from tests.bench.load import Load
from tests.bench.procfs import cpu_seconds


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two compared: `round` measures it once, `pid` is the process that serves it."""

    what: str
    round: Callable[[], Awaitable[Load]]
    pid: int | None = None


@dataclass(slots=True)
class Rounds:
    """The rounds of one side. `cpu_ms`: CPU of the serving process for each answer."""

    what: str
    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return median(self.rates)


@dataclass(slots=True)
class Figure:
    """`goal` is the least ratio wanted; without one the figure is told and not judged."""

    name: str
    goal: float | None
    product: Rounds
    baseline: Rounds
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.product.rates, self.baseline.rates, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios: a disturbance of the machine spoils a pair, not the figure."""
        return median(self.ratios)

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return "–"
        return "met" if self.ratio >= self.goal else "missed"


async def compare(
    name: str, product: Side, baseline: Side, *, pairs: int, goal: float | None, note: str = ""
) -> Figure:
    """Measures both in turns (A B, B A, …), each once beforehand to warm up."""
    figure = Figure(name, goal, Rounds(product.what), Rounds(baseline.what), note)
    sides = [(product, figure.product), (baseline, figure.baseline)]
    for side, _ in sides:
        await side.round()
    for number in range(pairs):
        for side, rounds in sides if number % 2 == 0 else reversed(sides):
            before = cpu_seconds(side.pid) if side.pid else 0.0
            load = await side.round()
            rounds.rates.append(load.rate)
            if side.pid:
                rounds.cpu_ms.append((cpu_seconds(side.pid) - before) * 1000 / load.answers)
    print(f"{name}: {figure.ratio:.0%} of the baseline ({figure.product.rate:.1f} / {figure.baseline.rate:.1f} per s)")
    return figure
