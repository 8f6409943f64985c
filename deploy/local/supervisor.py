"""Starts the services of a table in parallel, watches them, restarts what dies, and stops all of them together."""

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from core.paths import PROJECT
from deploy.local import ports, requests
from deploy.local.errors import StackError
from deploy.local.privileges import launch_line
from deploy.local.probes import Probe
from deploy.local.services import Service
from deploy.local.stack import Stack
from deploy.local.state import GOOD, ServiceState, creation_time, own_state

MAX_RESTARTS = 5
RESTART_WINDOW = 60.0
"""More than MAX_RESTARTS deaths within these seconds stop the whole stack: it is never half-alive."""
PROBE_INTERVAL = 0.15
HEALTH_INTERVAL = 5.0
_LAST_LINES = 12


class ServiceFailed(StackError):
    """A service could not be started or kept alive; the message carries its last log lines."""


class Runner:
    """One service: its child process and its state."""

    def __init__(self, service: Service, stack: Stack, changed: Callable[[], None]) -> None:
        self.service, self._stack, self._changed = service, stack, changed
        external = stack.external(*service.settings)
        port = stack.ports[service.ports[0]] if service.ports and not external else None
        self.state = ServiceState(service.name, service.kind, service.address(stack), port)
        self.ready = asyncio.Event()
        self.wanted = asyncio.Event()
        """Clear while somebody asked for this service to be down."""
        self.wanted.set()
        self._process: asyncio.subprocess.Process | None = None
        self._deaths: deque[float] = deque(maxlen=MAX_RESTARTS + 1)
        if external:
            self.state.status, self.state.url = "external", ""
            self.ready.set()

    @property
    def external(self) -> bool:
        return self.state.status == "external"

    def _set(self, status: str, detail: str = "") -> None:
        self.state.status, self.state.detail = status, detail  # type: ignore[assignment]
        self._changed()

    async def run(self, needs: Sequence["Runner"]) -> None:
        """Starts the service once what it needs is ready, and keeps it alive until cancelled. A job ends."""
        for need in needs:
            await need.ready.wait()
        self._set("preparing")
        await self.service.prepare(self._stack, lambda text: self._set("preparing", text))
        self.state.notice = self.service.notice(self._stack)
        while True:
            if not self.wanted.is_set():
                self._set("stopped", "on request")
                await self.wanted.wait()
            code = await self._one_life()
            if self.service.ready is None and code == 0:
                self._set("finished")
                self.ready.set()
                return
            if self.wanted.is_set():
                await self._back_off(code)

    async def _one_life(self) -> int:
        """From spawn to exit; returns the exit status."""
        began = time.monotonic()
        self._set("starting")
        process = self._process = await self._spawn()
        exited = asyncio.ensure_future(process.wait())
        try:
            if (probe := self.service.ready) is not None:
                if await self._until_ready(probe, exited):
                    await self.service.ensure(self._stack)
                    self.state.seconds = round(time.monotonic() - began, 1)
                    self.ready.set()
                    self._set("ready")
                await self._watch(probe, exited)
            return await exited
        finally:
            exited.cancel()
            await self._end_child()

    async def _spawn(self) -> asyncio.subprocess.Process:
        service, stack = self.service, self._stack
        line = launch_line(service.command(stack), unprivileged=service.unprivileged, death_signal=service.death_signal)
        with stack.log(service.name).open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *line,
                    env={**stack.child_environment(), **service.environment(stack)},
                    cwd=PROJECT,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                raise ServiceFailed(f"{service.name} cannot be started: {error}") from error
        self.state.pid, self.state.started = process.pid, creation_time(process.pid)
        self._changed()
        return process

    async def _until_ready(self, probe: Probe, exited: "asyncio.Future[int]") -> bool:
        """Probes until the service answers; False when it exits first. Raises ServiceFailed on a timeout."""
        deadline, reason = time.monotonic() + self.service.start_timeout, "no answer"
        while time.monotonic() < deadline:
            try:
                await probe(self._stack)
                return not exited.done()
            except Exception as error:  # whatever a half-started server answers, it is not ready
                reason = str(error) or type(error).__name__
            await asyncio.wait([exited], timeout=PROBE_INTERVAL)
            if exited.done():
                return False
        raise ServiceFailed(f"{self._died('is not ready')}\nlast answer: {reason}")

    async def _watch(self, probe: Probe, exited: "asyncio.Future[int]") -> None:
        """Until it exits, says in the state when it does not answer its health check."""
        while not exited.done():
            await asyncio.wait([exited], timeout=HEALTH_INTERVAL)
            if exited.done():
                return
            try:
                await probe(self._stack)
            except Exception as error:  # the reason is shown, the process may still recover
                self._set("unhealthy", str(error) or type(error).__name__)
            else:
                if self.state.status != "ready":
                    self._set("ready")

    async def _back_off(self, code: int) -> None:
        now = time.monotonic()
        self._deaths.append(now)
        recent = [death for death in self._deaths if now - death < RESTART_WINDOW]
        job = self.service.ready is None
        if job or len(recent) > MAX_RESTARTS or (not self.ready.is_set() and len(recent) > 2):
            raise ServiceFailed(self._died(_meaning(code)))
        delay = 0.25 * 2 ** (len(recent) - 1)
        self.state.restarts += 1
        self.state.last_death = self._died(_meaning(code))
        self._set("restarting", f"{_meaning(code)}, again in {delay:g} s")
        await asyncio.sleep(delay)

    def _died(self, what: str) -> str:
        path = self._stack.log(self.service.name)
        lines = "\n".join(f"[{self.service.name}] {line}" for line in last_lines(path))
        return f"{self.service.name} {what}; last lines of {path}:\n{lines}"

    def fail(self, reason: str) -> None:
        self._set("failed", reason)

    def hold(self, *, down: bool) -> None:
        """Takes the service down, or lets it up again."""
        if not down:
            self.wanted.set()
        elif self.service.ready is not None:
            self.wanted.clear()
            if (process := self._process) and process.returncode is None:
                process.send_signal(self.service.stop_signal)
                asyncio.get_running_loop().call_later(self.service.stop_timeout, _kill_group, process)

    async def _end_child(self) -> None:
        """Ends the child and everything in its process group: politely first, by force after the service's patience."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            self._set("stopping")
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.service.stop_signal)
            try:
                async with asyncio.timeout(self.service.stop_timeout):
                    await process.wait()
            except TimeoutError:
                self.state.detail = f"was killed: it did not stop within {self.service.stop_timeout:g} s"
        _kill_group(process)
        await process.wait()
        self.state.pid = self.state.started = None


class Supervisor:
    """All services of one stack. `run` returns when told to stop and raises ServiceFailed when it had to give up."""

    def __init__(self, stack: Stack, services: Sequence[Service]) -> None:
        self._stack = stack
        self.runners = {service.name: Runner(service, stack, self.publish) for service in services}
        self.state = own_state([runner.state for runner in self.runners.values()], stack.ports)
        self._stopping = asyncio.Event()
        self._began = time.monotonic()

    def publish(self) -> None:
        """Writes the state for other commands; from then on they know who runs the stack."""
        self.state.ready = all(service.status in GOOD for service in self.state.services)
        if self.state.ready and self.state.seconds is None:
            self.state.seconds = round(time.monotonic() - self._began, 1)
        self.state.write(self._stack.state_file)

    def obey(self) -> None:
        """Carries out what other commands asked for, see requests.py; called from a signal handler of the loop."""
        for name, action in requests.take(self._stack):
            if (runner := self.runners.get(name)) and not runner.external:
                runner.hold(down=action == "stop")

    def stop(self) -> None:
        """Asks `run` to end; safe to call from a signal handler of the loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Everything from the port check to the last child's end."""
        tasks: dict[Runner, asyncio.Task[None]] = {}
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            ports.check(self._stack.ports, [port for runner in self._own() for port in runner.service.ports])
            for runner in self._own():
                _keep_one_old(self._stack.log(runner.service.name))
            self.publish()
            tasks = {runner: asyncio.create_task(self._supervise(runner)) for runner in self._own()}
            await self._until_stopped_or_failed(tasks.values(), stopping)
        except Exception as error:
            self.state.failure = str(error)
            raise
        finally:
            stopping.cancel()
            await self._end(tasks)

    async def _supervise(self, runner: Runner) -> None:
        try:
            await runner.run([self.runners[name] for name in runner.service.needs if name in self.runners])
        except Exception as error:
            runner.fail(str(error))
            raise

    async def _until_stopped_or_failed(
        self, tasks: Iterable["asyncio.Task[None]"], stopping: "asyncio.Task[bool]"
    ) -> None:
        pending: set[asyncio.Task[None] | asyncio.Task[bool]] = {*tasks, stopping}
        while not stopping.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()

    async def _end(self, tasks: Mapping[Runner, "asyncio.Task[None]"]) -> None:
        """Our processes first, then the servers they talk to."""
        order = {"process": 0, "job": 0, "server": 1}
        for group in sorted(set(order.values())):
            ending = [task for runner, task in tasks.items() if order[runner.service.kind] == group]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
        for runner in self._own():
            if runner.state.status != "failed":
                runner.state.status = "stopped"
            runner.state.pid = runner.state.started = None
        self.state.ready = False
        self.state.write(self._stack.state_file)

    def _own(self) -> list[Runner]:
        return [runner for runner in self.runners.values() if not runner.external]


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Ends whatever is left of the child's session; nothing when all of it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def last_lines(path: Path, count: int = _LAST_LINES) -> list[str]:
    """The end of a log file, reading no more of it than needed."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def _keep_one_old(path: Path) -> None:
    if path.exists():
        path.replace(path.with_suffix(".log.1"))


def _meaning(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
