"""docker-compose.yml gives each process few settings; here they run with those and no others."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import yaml

from core.settings import Settings
from deploy.local.stack import script
from tests.support import isolation
from tests.support.ports import free_port
from tests.support.stack import Servers
from tests.support.wait import until

SERVICES = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())["services"]
PROCESSES = [name for name, service in SERVICES.items() if service["image"].startswith("lyceum:") and name != "setup"]

SHARED = {
    # Tests share servers: what keeps them apart, and addresses that differ outside a container.
    "LYCEUM_RABBITMQ__PREFIX",
    "LYCEUM_REDIS__PREFIX",
    "LYCEUM_TEMPORAL__TASK_QUEUE_PREFIX",
    "LYCEUM_TEMPORAL__NAMESPACE",
    "LYCEUM_OPENSEARCH__INDEX_PREFIX",
    "LYCEUM_S3__BUCKET",
}


def environment(settings: Settings, name: str) -> dict[str, str]:
    """What compose sets for the service, with this session's values."""
    values = isolation.as_environment(settings)
    chosen = {key: values[key] for key in SERVICES[name]["environment"] if key in values} | {
        key: values[key] for key in SHARED
    }
    system = {key: value for key, value in os.environ.items() if not key.startswith("LYCEUM_")}
    return {**system, **chosen, "LYCEUM_ENV_FILE": os.devnull, "LYCEUM_ENVIRONMENT": "production"}


async def start(name: str, variables: dict[str, str], log: Path) -> asyncio.subprocess.Process:
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            script("lyceum"), *SERVICES[name]["command"], env=variables, stdout=output, stderr=output
        )


@pytest.fixture(scope="module")
async def corner(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A corner prepared by the setup job, with its own few settings."""
    async with isolation.corner(servers) as settings:
        log = tmp_path_factory.mktemp("setup") / "log"
        process = await start("setup", environment(settings, "setup"), log)
        assert await process.wait() == 0, log.read_text()[-3000:]
        yield settings


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
async def test_a_process_becomes_ready_with_what_compose_gives_it(corner: Settings, name: str, tmp_path: Path) -> None:
    port, variables = free_port(), environment(corner, name)
    place = {"8000": "LYCEUM_API__PORT", "8234": "LYCEUM_CODEC_SERVER__PORT", "9100": "LYCEUM_TELEMETRY__METRICS_PORT"}
    health = SERVICES[name]["environment"]["LYCEUM_HEALTH_PORT"]
    # The codec server stands on nothing, so it has no readiness page.
    page = "healthz" if health == "8234" else "readyz"
    log = tmp_path / "log"
    process = await start(name, variables | {place[health]: str(port)}, log)

    async def ready() -> bool:
        assert process.returncode is None, log.read_text()[-3000:]
        try:
            return (await http.get(f"http://127.0.0.1:{port}/{page}")).status_code == 200
        except httpx2.TransportError:
            return False

    try:
        async with httpx2.AsyncClient() as http:
            await until(ready, timeout=60, every=0.2)
    finally:
        if process.returncode is None:
            process.terminate()
        # uvicorn ends by the signal that stopped it.
        assert await process.wait() in (0, -signal.SIGTERM), log.read_text()[-3000:]
