"""OpenSearch: the real server where a JDK of 21 or newer and Maven are there, else osmem-server, all in memory.

The unmodified minimal distribution comes from Maven; pom.xml pins it. It refuses root and has no security plugin here,
so it listens on loopback only.
"""

import os
import re
import shutil
from pathlib import Path

from deploy.local.stack import Stack
from deploy.local.tools import Note, ToolFailed, exclusive, run

VERSION = "3.6.0"
OLDEST_JAVA = 21
STAND_IN_NOTICE = (
    "OpenSearch is the in-memory stand-in (osmem); the real one needs a JDK >= 21 and Maven. The catalogue is "
    "re-indexed at start; k-NN and scripted updates are missing."
)

_HERE = Path(__file__).parent
_UNUSED_MODULES = ("ingest-geoip", "opensearch-dashboards")


def java() -> str | None:
    """The newest JDK's `java`, from JAVA_HOME or the usual folder; None when all are too old."""
    homes = [Path(home) for home in (os.environ.get("JAVA_HOME"),) if home]
    homes += [link for link in Path("/usr/lib/jvm").glob("*") if not link.is_symlink()]
    versions = [(_java_version(home), str(home / "bin/java")) for home in homes]
    version, program = max(versions, default=(0, ""))
    return program if version >= OLDEST_JAVA else None


def _java_version(home: Path) -> int:
    release = home / "release"
    if not release.is_file() or not (home / "bin/java").exists():
        return 0
    match = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def distribution(stack: Stack) -> Path:
    return stack.cache / "opensearch" / f"opensearch-{VERSION}"


def is_real(stack: Stack) -> bool:
    """Whether this stack runs the real server. `LYCEUM_OPENSEARCH_STAND_IN=1` asks for the stand-in."""
    if stack.environ.get("LYCEUM_OPENSEARCH_STAND_IN") or java() is None:
        return False
    return _complete(stack).exists() or (shutil.which("mvn") is not None and not _unreachable(stack).exists())


def _complete(stack: Stack) -> Path:
    return distribution(stack) / ".complete"


def _unreachable(stack: Stack) -> Path:
    """Why the real server could not be fetched at this start."""
    return stack.home / "run" / "opensearch-unreachable"


def notice(stack: Stack) -> str:
    """What a person should know about the search server here; empty for the real one."""
    if is_real(stack):
        return ""
    reason = _unreachable(stack)
    failed = f" Maven could not fetch the real one: {reason.read_text().splitlines()[-1]}" if reason.exists() else ""
    return STAND_IN_NOTICE + failed


async def prepare(stack: Stack, note: Note) -> None:
    """Fetches the server once and configures it. Where that fails, the stand-in runs until the next start."""
    _unreachable(stack).unlink(missing_ok=True)
    if not is_real(stack):
        return
    async with exclusive(stack.cache / "opensearch"):
        if not _complete(stack).exists():
            note(f"fetching OpenSearch {VERSION} through Maven (161 MB, once)")
            try:
                await _fetch(stack)
            except ToolFailed as error:
                _unreachable(stack).write_text(str(error))
                return
    _configure(stack)


async def _fetch(stack: Stack) -> None:
    folder = stack.cache / "opensearch"
    await run(
        stack,
        ["mvn", "-B", "-q", "-Dstyle.color=never", "-f", str(_HERE / "pom.xml"), f"-Ddist.dir={folder}"]
        + [f"-Dopensearch.version={VERSION}", "package"],
    )
    for module in _UNUSED_MODULES:
        shutil.rmtree(distribution(stack) / "modules" / module, ignore_errors=True)
    _complete(stack).touch()


def _configure(stack: Stack) -> None:
    base = stack.data("opensearch")
    for folder in ("config", "data", "logs", "tmp"):
        (base / folder).mkdir(parents=True, exist_ok=True)
        (base / folder).chmod(0o777)
    base.parent.chmod(0o755)
    shutil.copy(_HERE / "log4j2.properties", base / "config")
    (base / "config" / "opensearch.yml").write_text(
        "cluster.name: lyceum\nnode.name: local\n"
        f"path.data: {base}/data\npath.logs: {base}/logs\n"
        f"network.host: 127.0.0.1\nhttp.port: {stack.ports['opensearch']}\n"
        f"transport.port: {stack.ports['opensearch_transport']}\n"
        "discovery.type: single-node\ncluster.routing.allocation.disk.threshold_enabled: false\n"
    )


def command(stack: Stack) -> list[str]:
    """Java without the distribution's launcher: only the C1 compiler and no agent, to start in a third of the time."""
    if not is_real(stack):
        from osmem_server import resolve_binary

        return [str(resolve_binary()), "-addr", f"127.0.0.1:{stack.ports['opensearch']}", "-no-stdin-watch"]
    home, base = distribution(stack), stack.data("opensearch")
    heap = stack.environ.get("LYCEUM_OPENSEARCH_HEAP", "384m")
    tmp = base / "tmp"
    bootstrap = next((home / "agent").glob("opensearch-agent-bootstrap-*.jar"))
    return [
        str(java()),
        *(f"-Xms{heap}", f"-Xmx{heap}", "-Xss1m", "-XX:MaxDirectMemorySize=256m"),
        *("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-OmitStackTraceInFastThrow"),
        *(f"-XX:ErrorFile={base}/logs/hs_err_pid%p.log", "-XX:-UsePerfData"),
        *("--add-opens=java.base/java.nio=ALL-UNNAMED", "--enable-native-access=ALL-UNNAMED"),
        *(f"-Djava.io.tmpdir={tmp}", f"-Djna.tmpdir={tmp}", "-Djna.nosys=true", "-Djava.awt.headless=true"),
        *("-Dfile.encoding=UTF-8", "-Djava.locale.providers=SPI,CLDR"),
        *("-Dio.netty.noUnsafe=true", "-Dio.netty.noKeySetOptimization=true"),
        *("-Dio.netty.recycler.maxCapacityPerThread=0", "-Dio.netty.allocator.numDirectArenas=0"),
        *("-Dlog4j.shutdownHookEnabled=false", "-Dlog4j2.disable.jmx=true"),
        "-Dorg.apache.lucene.store.MMapDirectory.sharedArenaMaxPermits=1",
        *(f"-Dopensearch.path.home={home}", f"-Dopensearch.path.conf={base}/config"),
        *("-Dopensearch.distribution.type=zip", "-Dopensearch.bundled_jdk=false"),
        *("-cp", f"{home}/lib/*:{bootstrap}", "org.opensearch.bootstrap.OpenSearch"),
    ]
