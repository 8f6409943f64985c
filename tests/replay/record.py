"""Records histories: `python -m tests.replay.record [WORKFLOW …]`.

It writes the cases this release does not have yet (all cases of the workflows that are named), never those of earlier
releases: they are what running processes look like, and are deleted when no such process can run any more.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Collection

from tests.replay import histories
from tests.replay.cases import CASES
from tests.workflows.lab import lab


async def record(named: Collection[str]) -> None:
    """Runs the cases on a server of its own."""
    async with lab("recorded") as fresh:
        for workflow, cases in CASES.items():
            for case, run in cases.items():
                path = histories.path_of(workflow, case)
                if workflow in named or not path.exists():
                    process = await run(fresh)
                    await process.result()
                    histories.store(path, await process.fetch_history())
                    print(path.relative_to(histories.FOLDER))  # noqa: T201
    await asyncio.sleep(0.2)  # sdk-python#300: its threads may abort an interpreter that leaves at once


def main() -> None:
    unknown = set(sys.argv[1:]) - set(CASES)
    if unknown:
        raise SystemExit(f"There is no workflow {', '.join(sorted(unknown))}; there are {', '.join(CASES)}.")
    os.environ["LYCEUM_ENV_FILE"] = os.devnull
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)  # the failures are meant
    asyncio.run(record(sys.argv[1:]))


if __name__ == "__main__":
    main()
