"""The benchmarks run and say everything they should; how fast is not a test's business."""

import pytest

from tests.bench.__main__ import PARTS, measure
from tests.bench.world import PROCESSES
from tests.support.stack import Servers


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_figure_is_measured(servers: Servers) -> None:
    report = await measure(PARTS, pairs=1, seconds=0.2, orders=2, order_pairs=1, memory_orders=2)
    assert [figure.name for figure in report.figures] == [
        "Outline of a course",
        "Lesson",
        "Search",
        "Search, never asked before",
        "Free enrollment",
        "Login",
        "Paid orders",
    ]
    assert all(figure.ratio > 0 for figure in report.figures)
    assert report.costs is not None
    assert report.costs.activities >= 4
    # The servers are shared: what other tests do while they should be at rest may hide what an order costs them.
    assert {"api", "worker"} <= report.costs.cpu_ms.keys()
    assert report.events == 8
    assert report.memory is not None
    assert set(PROCESSES) <= report.memory.keys()
    assert min(grown.idle.pss for grown in report.memory.values()) > 0
    page = report.markdown()
    assert all(f"| {figure.name} |" in page for figure in report.figures)
    assert "## CPU of an order" in page
    assert "## Memory" in page
