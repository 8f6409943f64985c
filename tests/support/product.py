"""Our own processes as an operator runs them, against the session's corner of the servers; they can be killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

import httpx2
from pydantic import SecretStr

from core.settings import Settings
from deploy.local.stack import script
from tests.support.isolation import as_environment
from tests.support.ports import free_port
from tests.support.wait import until

COMMANDS = {
    "api": ["api"],
    "worker": ["worker"],
    "relay": ["relay"],
    "processes": ["consume", "processes"],
    "notifications": ["consume", "notifications"],
    "search": ["consume", "search"],
}


def own_account(settings: Settings, home: Path) -> Settings:
    """The settings with a Stripe account, an API address and a failpoint directory of their own."""
    port = free_port()
    failpoints = home / "failpoints"
    failpoints.mkdir(exist_ok=True)
    return settings.model_copy(
        update={
            "stripe": settings.stripe.model_copy(
                update={
                    "secret_key": SecretStr(f"sk_test_{token_hex(12)}"),
                    "webhook_secrets": SecretStr(f"whsec_{token_hex(16)}"),
                }
            ),
            "api": settings.api.model_copy(update={"port": port, "public_url": f"http://127.0.0.1:{port}"}),
            "failpoints": str(failpoints),
        }
    )


class Product:
    """Starts, kills and restarts our processes. `settings` are those they run with."""

    def __init__(self, settings: Settings, home: Path) -> None:
        self.settings, self._home = settings, home
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._ports: dict[str, int] = {"api": settings.api.port}
        self.http = httpx2.AsyncClient(base_url=settings.api.public_url, timeout=40)

    async def start(self, *names: str) -> None:
        """Starts processes and waits until each is ready."""
        for name in names:
            await self.spawn(name)
        await asyncio.gather(*(self.ready(name) for name in names))

    async def spawn(self, name: str) -> None:
        """Starts a process and does not wait for it."""
        port = self._ports.setdefault(name, free_port())
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("LYCEUM_")},
            **as_environment(self.settings),
            "LYCEUM_ENV_FILE": os.devnull,
            "LYCEUM_TELEMETRY__METRICS_PORT": "0" if name == "api" else str(port),
        }
        with (self._home / f"{name}.log").open("ab") as log:
            self._running[name] = await asyncio.create_subprocess_exec(
                script("lyceum"), *COMMANDS[name], env=environment, stdout=log, stderr=log
            )

    async def ready(self, name: str, *, timeout: float = 180) -> None:
        """Waits until the process reaches what it needs; fails with its last log lines."""

        answer = "nothing"

        async def answers() -> bool:
            nonlocal answer
            if self._running[name].returncode is not None:
                raise AssertionError(f"{name} ended: {self.log(name)[-3000:]}")
            try:
                response = await self.http.get(f"http://127.0.0.1:{self._ports[name]}/readyz")
            except httpx2.TransportError as error:
                answer = repr(error)
                return False
            answer = response.text
            return response.status_code == 200 and self._running[name].returncode is None

        try:
            await until(answers, timeout=timeout, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{name} is not ready: {answer} {self.log(name)[-3000:]}") from error

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def log(self, name: str) -> str:
        return (self._home / f"{name}.log").read_text()

    async def kill(self, name: str) -> None:
        """SIGKILL: nothing is said goodbye to."""
        await self._end(name, signal.SIGKILL)

    async def stop(self, name: str) -> None:
        """SIGTERM: the process finishes what it does."""
        await self._end(name, signal.SIGTERM)

    async def _end(self, name: str, number: signal.Signals) -> None:
        process = self._running[name]
        if process.returncode is None:
            process.send_signal(number)
        await process.wait()

    def arm(self, failpoint: str) -> None:
        """The next process to pass `failpoint` is killed there."""
        (Path(self.settings.failpoints) / failpoint).touch()

    async def died_at(self, name: str, failpoint: str, *, timeout: float = 120) -> None:
        """Waits until the process has ended; fails unless `failpoint` killed it."""
        code = await asyncio.wait_for(self._running[name].wait(), timeout)
        hit = (Path(self.settings.failpoints) / f"{failpoint}.hit").exists()
        assert (code, hit) == (-signal.SIGKILL, True), self.log(name)[-3000:]

    async def aclose(self) -> None:
        await asyncio.gather(*(self.kill(name) for name in self._running))
        await self.http.aclose()


@asynccontextmanager
async def running(settings: Settings, home: Path, names: Iterable[str]) -> AsyncIterator[Product]:
    """The named processes for the length of a block."""
    product = Product(settings, home)
    try:
        await product.start(*names)
        yield product
    finally:
        await product.aclose()
