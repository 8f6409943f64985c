"""The supervisor with small stand-in services: restarts, giving up, requests, ports, and nothing left behind."""

import asyncio
import fcntl
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from core.paths import PROJECT
from deploy.local import commands, leftovers, ports, requests, status
from deploy.local.probes import http
from deploy.local.services import Service
from deploy.local.stack import Stack
from deploy.local.state import ServiceState, StackState
from deploy.local.supervisor import ServiceFailed, Supervisor

_SERVER = """
import http.server, subprocess, sys
port, child = int(sys.argv[1]), len(sys.argv) > 2
print("hello from the service", flush=True)
if child:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", port), Quiet).serve_forever()
"""


def web(name: str = "web", port: str = "api", **options: object) -> Service:
    return Service(
        name=name,
        kind="server",
        command=lambda stack: [sys.executable, "-c", _SERVER, str(stack.ports[port])],
        ports=(port,),
        ready=http(port, "/"),
        url="http://127.0.0.1:{port}",
        **options,  # type: ignore[arg-type]
    )


def job(code: str, **options: object) -> Service:
    command = [sys.executable, "-c", code]
    return Service(name="job", kind="job", command=lambda stack: command, ready=None, **options)  # type: ignore[arg-type]


@pytest.fixture
def own(tmp_path: Path) -> Stack:
    stack = Stack.open(tmp_path, {**os.environ, **ports.free_block(tmp_path)})
    stack.create()
    return stack


async def until(condition: Callable[[], bool], timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(stack: Stack, *services: Service) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(stack, services)
    task = asyncio.create_task(supervisor.run())
    try:
        await until(lambda: supervisor.state.ready or task.done())
        yield supervisor
    finally:
        supervisor.stop()
        await task


def service(supervisor: Supervisor, name: str) -> ServiceState:
    return supervisor.state.service(name)


async def test_services_start_after_what_they_need_and_stop_together(own: Stack) -> None:
    marker = own.home / "marker"
    first = job(f"import time; time.sleep(0.2); open({str(marker)!r}, 'w').close()")
    async with running(own, web(needs=("job",), ensure=_assert_exists(marker)), first) as supervisor:
        statuses = {state.name: state.status for state in supervisor.state.services}
        assert statuses == {"web": "ready", "job": "finished"}
        pid = service(supervisor, "web").pid
        assert StackState.read(own.state_file) == supervisor.state
    assert pid is not None
    assert not psutil.pid_exists(pid)
    stopped = StackState.read(own.state_file)
    assert stopped is not None
    assert [(state.status, state.pid) for state in stopped.services] == [("stopped", None), ("stopped", None)]


def _assert_exists(path: Path) -> Callable[[Stack], object]:
    async def ensure(stack: Stack) -> None:
        assert path.exists()

    return ensure


async def test_a_killed_service_is_reported_and_restarted(own: Stack) -> None:
    async with running(own, web()) as supervisor:
        state = service(supervisor, "web")
        first = state.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: state.status == "restarting")
        assert state.detail == "was ended by SIGKILL, again in 0.25 s"
        await until(lambda: state.status == "ready")
        assert state.pid not in (None, first)
        assert state.restarts == 1
        written = StackState.read(own.state_file)
        assert written is not None
        assert written.service("web").last_death.splitlines() == [
            f"web was ended by SIGKILL; last lines of {own.log('web')}:",
            "[web] hello from the service",
        ]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_death_is_shown_once_with_its_log_lines(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(status, "console", Console(file=shown, force_terminal=terminal, width=100))
    web = ServiceState("web", "server", "", 8000, status="ready")
    state = StackState(pid=1, started=0, services=[web], ready=True, seconds=1.0)
    with status.Board(hint="") as board:
        board.show(state)
        web.restarts, web.last_death = 1, "web was ended by SIGKILL; last lines of web.log:\n[web] hello"
        board.show(state)
        board.show(state)
    text = shown.getvalue()
    assert text.count("web was ended by SIGKILL; last lines of web.log:\n[web] hello\n") == 1
    assert text.index("[web] hello") < text.rindex("Ready in 1.0 s") or not terminal


async def test_a_service_that_keeps_dying_stops_the_stack(own: Stack) -> None:
    dying = Service(
        name="dying",
        kind="server",
        command=lambda stack: [sys.executable, "-c", "print('no luck'); raise SystemExit(3)"],
        ready=http("smtp", "/"),
    )
    supervisor = Supervisor(own, [web(), dying])
    with pytest.raises(ServiceFailed) as failure:
        await supervisor.run()
    assert str(failure.value).startswith(f"dying exited with 3; last lines of {own.log('dying')}:\n[dying] no luck")
    assert service(supervisor, "dying").status == "failed"
    assert service(supervisor, "web").pid is None
    assert supervisor.state.failure == str(failure.value)


async def test_a_failed_job_stops_the_stack(own: Stack) -> None:
    with pytest.raises(ServiceFailed, match="job exited with 7"):
        await Supervisor(own, [job("raise SystemExit(7)")]).run()


async def test_a_taken_port_is_named_with_its_setting(own: Stack) -> None:
    taken = subprocess.Popen([sys.executable, "-c", _SERVER, str(own.ports["api"])], stdout=subprocess.DEVNULL)
    try:
        await until(lambda: not ports.is_free(own.ports["api"]))
        with pytest.raises(ports.PortTaken) as failure:
            await Supervisor(own, [web()]).run()
    finally:
        taken.kill()
        taken.wait()
    assert str(failure.value).startswith(f"port {own.ports['api']} for api is taken by ")
    assert str(failure.value).endswith("; set LYCEUM_PORTS__API to another one")


async def test_a_service_run_elsewhere_is_not_started(own: Stack) -> None:
    stack = Stack.open(own.home, {**own.environ, "LYCEUM_TEST_URL": "http://elsewhere"})
    async with running(stack, web(settings=("LYCEUM_TEST_URL",))) as supervisor:
        assert (service(supervisor, "web").status, service(supervisor, "web").pid) == ("external", None)
        assert service(supervisor, "web").port is None


def test_a_stack_has_one_launcher_at_a_time(own: Stack) -> None:
    (own.home / "run" / "lock").touch()
    with (own.home / "run" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (
            pytest.raises(commands.UpFailed, match=f"another launcher runs the stack in {own.home}"),
            commands.sole_launcher(own),
        ):
            raise AssertionError("two at once")
    with commands.sole_launcher(own):
        pass


async def test_a_request_takes_one_service_down_and_up_again(own: Stack) -> None:
    async with running(own, web()) as supervisor:
        state = service(supervisor, "web")
        (own.home / "run" / "requests").mkdir()
        (own.home / "run" / "requests" / "web").write_text("stop")
        supervisor.obey()
        await until(lambda: state.status == "stopped")
        assert ports.is_free(own.ports["api"])
        assert not supervisor.state.ready
        (own.home / "run" / "requests" / "web").write_text("start")
        supervisor.obey()
        await until(lambda: state.status == "ready")
        assert state.restarts == 0
    with pytest.raises(requests.RequestFailed, match="no service 'nonsense'"):
        requests.send(own, "nonsense", "stop")


_PREPARING = """
import asyncio, sys
from deploy.local.services import Service
from deploy.local.stack import Stack
from deploy.local.supervisor import Supervisor
from deploy.local.tools import run
async def prepare(stack, note):
    await run(stack, [sys.executable, "-c", "import time; time.sleep(600)"])
job = Service(name="job", kind="job", command=lambda stack: ["true"], ready=None, prepare=prepare)
asyncio.run(Supervisor(Stack.open(), [job]).run())
"""


async def test_a_download_ends_with_a_killed_launcher(own: Stack) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", _PREPARING], env={**own.environ, "LYCEUM_HOME": str(own.home)}, cwd=PROJECT
    )
    try:
        await until(lambda: len(leftovers.find(own.home, None)) == 1)
    finally:
        launcher.kill()
        launcher.wait()
    await until(lambda: leftovers.find(own.home, None) == [])


_LAUNCHER = """
import asyncio, sys
from pathlib import Path
from deploy.local.services import Service
from deploy.local.stack import Stack
from deploy.local.supervisor import Supervisor
from deploy.local.probes import http
server = Path(sys.argv[1]).read_text()
web = Service(name="web", kind="server", ports=("api",), ready=http("api", "/"),
    command=lambda stack: [sys.executable, "-c", server, str(stack.ports["api"]), "child"])
asyncio.run(Supervisor(Stack.open(), [web]).run())
"""


async def test_nothing_is_left_once_a_killed_launcher_was_cleaned_up(own: Stack, tmp_path: Path) -> None:
    """The kernel ends the service with its launcher; what the service had started itself goes at the next command."""
    program = tmp_path / "server.py"
    program.write_text(_SERVER)
    launcher = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, str(program)], env={**own.environ, "LYCEUM_HOME": str(own.home)}, cwd=PROJECT
    )
    try:
        await until(lambda: bool((state := StackState.read(own.state_file)) and state.ready))
        state = StackState.read(own.state_file)
        assert state is not None
        pid = state.service("web").pid
        assert pid is not None
        assert len(leftovers.find(own.home, state)) == 2
    finally:
        launcher.kill()
        launcher.wait()
    await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    assert not state.is_running()
    assert leftovers.end(own.home, state) == 1
    assert leftovers.find(own.home, state) == []
