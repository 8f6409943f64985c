"""docs/benchmarks.md, from what was measured."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil

from tests.bench.figures import Figure, Rounds
from tests.bench.memory import Grown
from tests.bench.purchases import Costs

_HEAD = """\
# Benchmarks

Written by `make bench`{arguments}; do not edit. Each figure is a **ratio** to a baseline that does the least possible
for the same effect. Both are measured in the same run, on the same servers, in turns (A B, B A, …) of a few seconds,
each warmed up once; the ratio is the median of the pairs' ratios, so what else the machine does at the time falls on
both. Absolute figures are context and mean little elsewhere.

"""

_HOW = """
## How

- **Baselines of requests**: a FastAPI application on uvicorn (uvloop, httptools) with an asyncpg pool of the same size
  as ours, one process like ours. A read answers exactly the bytes that the product answers, from one query by primary
  key; a write commits one insert. It checks no token, writes no log and counts nothing.
- **Load**: 16 connections, each sending its next request when it has its answer, from a client that only splits
  answers; it shares the machine's cores with the servers, so it costs both sides the same per request and flatters
  neither by more than its own few microseconds.
- **Baseline of login**: the same hash verified in as many threads as the API has, without HTTP.
- **Baseline of orders**: a workflow of one update, one signal and as many empty activities as an order runs on the
  happy path (the median of the histories of this run), on the same Temporal server, with the same codec, sandbox and
  worker settings. The product's side is everything: HTTP, PostgreSQL, Stripe sandbox, webhooks, ledger, events through
  RabbitMQ, notifications and mails, and the process of the enrollment; a round ends when its last order is settled.
- **CPU**: user and system time of each process with its descendants, from `/proc`, less what it takes at rest.
"""


@dataclass(slots=True)
class Report:
    """What has been measured so far."""

    figures: list[Figure] = field(default_factory=list)
    costs: Costs | None = None
    events: int = 0
    memory: Mapping[str, Grown] | None = None

    def markdown(self, arguments: Sequence[str] = ()) -> str:
        """The whole page."""
        parts = [_HEAD.format(arguments=f" (`ARGS='{' '.join(arguments)}'`)" if arguments else ""), _machine()]
        if self.figures:
            parts += [_ratios(self.figures), _HOW]
        if self.costs:
            parts.append(_cpu(self.costs))
        if self.memory:
            parts.append(_memory(self.events, self.memory))
        return "".join(parts)


def _machine() -> str:
    cores, memory = psutil.cpu_count() or 0, psutil.virtual_memory().total / 2**30
    model = next((line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"Machine: {platform.system()} {platform.machine()}, {cores} cores{f' ({model})' if model else ''}, "
        f"{memory:.0f} GiB; CPython {platform.python_version()}; load averages at the end {load}.\n\n"
    )


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _ratios(figures: Sequence[Figure]) -> str:
    rows = [
        [
            figure.name,
            f"**{figure.ratio:.0%}**",
            f"≥ {figure.goal:.0%}" if figure.goal is not None else "–",
            figure.verdict,
            f"{min(figure.ratios):.0%} – {max(figure.ratios):.0%} ({len(figure.ratios)})",
            _side(figure.product),
            _side(figure.baseline),
        ]
        for figure in figures
    ]
    head = ["", "Ratio", "Goal", "", "Pairs: least – most (number)", "Product", "Baseline"]
    notes = "".join(f"- {figure.name}: {figure.note}\n" for figure in figures if figure.note)
    return f"## Ratios\n\n{_table(head, rows)}\n{notes}"


def _side(rounds: Rounds) -> str:
    cpu = f", {median(rounds.cpu_ms):.2f} ms CPU each" if rounds.cpu_ms else ""
    return f"{rounds.rate:.1f}/s{cpu} ({rounds.what})"


def _cpu(costs: Costs) -> str:
    names = sorted(costs.cpu_ms | costs.bare_cpu_ms, key=lambda name: -costs.cpu_ms.get(name, 0))
    rows = [[name, f"{costs.cpu_ms.get(name, 0):.1f}", f"{costs.bare_cpu_ms.get(name, 0):.1f}"] for name in names]
    rows.append(["**all**", f"**{sum(costs.cpu_ms.values()):.1f}**", f"**{sum(costs.bare_cpu_ms.values()):.1f}**"])
    return (
        "\n## CPU of an order\n\nMilliseconds of an order from the click to settled money, by process; beside it the "
        f"bare workflow. Most orders run {costs.activities} activities, none less than {costs.activities_least}: what "
        "a payment brings is read and booked, and once more when Stripe has its balance transaction. "
        "stripe is the sandbox.\n\n" + _table(["Process", "Order", "Bare workflow"], rows)
    )


def _memory(events: int, memory: Mapping[str, Grown]) -> str:
    rows = [
        [
            name,
            f"{grown.idle.rss:.0f}",
            f"{grown.idle.pss:.0f}",
            f"{grown.after.rss:.0f}",
            f"{grown.after.pss:.0f}",
            f"{grown.after.pss - grown.idle.pss:+.0f}",
        ]
        for name, grown in memory.items()
    ]
    head = ["Process", "Idle RSS", "Idle PSS", "After RSS", "After PSS", "PSS grown by"]
    return (
        f"\n## Memory\n\nMiB of each process with its descendants, idle and after {events:,} events of orders "
        "(placed, paid, settled, enrollment granted) were published, consumed, notified and mailed.\n\n"
        + _table(head, rows)
    )
