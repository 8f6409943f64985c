"""`make bench` (`python -m tests.bench`): measures, prints, and writes docs/benchmarks.md.

`--memory` adds the memory of each process after 10,000 orders' worth of events, which takes minutes; `--only` picks
`requests`, `orders` or `memory` and prints without writing the page, as `--dry` does.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

os.environ["LYCEUM_ENV_FILE"] = os.devnull  # a developer's own stack must not leak into the figures

from tests.bench import memory, purchases, requests
from tests.bench.report import Report
from tests.bench.world import world

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
PARTS = ("requests", "orders", "memory")
MEMORY_ORDERS = 10_000


async def measure(
    parts: Sequence[str],
    *,
    pairs: int = 9,
    seconds: float = 2.0,
    orders: int = 120,
    order_pairs: int = 5,
    memory_orders: int = MEMORY_ORDERS,
    keep: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Everything asked for; `seconds` is the length of a round of requests, `orders` the number in a round of them.

    `keep` is given what there is after each part: a run that is interrupted has not been for nothing.
    """
    report = Report()
    if "requests" in parts:
        async with world(processes=["api"], students=150, catalogue=500) as quiet:
            report.figures += await requests.reads(quiet, pairs=pairs, seconds=seconds)
            report.figures.append(await requests.enrollment(quiet, pairs=pairs, seconds=seconds))
            report.figures.append(await requests.login(quiet, pairs=pairs, seconds=2 * seconds))
        keep(report)
    if "orders" in parts:
        async with world(students=orders * (order_pairs + 2)) as busy:
            figure, report.costs = await purchases.orders(busy, pairs=order_pairs, count=orders)
            report.figures.append(figure)
        keep(report)
    if "memory" in parts:
        report.events, report.memory = await memory.events(memory_orders)
        keep(report)
    await asyncio.sleep(0.2)  # sdk-python#300: Temporal's threads may abort an interpreter that leaves at once
    return report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--memory", action="store_true", help="measure memory too")
    parser.add_argument("--only", choices=PARTS, help="measure this part alone; implies --dry")
    parser.add_argument("--dry", action="store_true", help="do not write the page")
    chosen = parser.parse_args()
    parts = [chosen.only] if chosen.only else [*PARTS[:2], *(PARTS[2:] if chosen.memory else ())]

    def write(report: Report) -> None:
        PAGE.write_text(report.markdown(sys.argv[1:]), encoding="utf-8")

    dry = chosen.only or chosen.dry
    report = uvloop.run(measure(parts) if dry else measure(parts, keep=write))
    print(report.markdown(sys.argv[1:]))


if __name__ == "__main__":
    main()
