"""What is measured: the product in a corner of the test servers, the bare baselines beside it, and data."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import asyncpg
import httpx2
from temporalio.client import Client

from core.db import Database
from core.security.tokens import Tokens
from core.settings import Settings
from core.temporal import connect
from deploy.setup import setup
from domain.identity import Role
from tests.bench.bare_api import SCHEMA
from tests.support import isolation
from tests.support.accounts import Account, sign_in
from tests.support.authoring import Author
from tests.support.catalogue import Catalogue
from tests.support.ports import free_port
from tests.support.product import Product, own_account, running
from tests.support.sandbox import Sandbox
from tests.support.stack import Servers
from tests.support.wait import until

SERVERS = ("temporal", "postgres", "rabbitmq", "valkey", "opensearch", "stripe")
PROCESSES = ("api", "worker", "relay", "processes", "notifications", "search")
PAIRS_PER_STUDENT = 160
"""Free courses: each student enrolls in each once."""

_WORDS = (
    *("bread", "garden", "guitar", "python", "watercolour", "chess", "history", "statistics", "portrait", "swimming"),
    *("astronomy", "grammar", "ceramics", "economics", "sailing", "photography", "poetry", "robotics", "knitting"),
)
_BODY = "Knead the dough until it is *smooth*, then let it rest.\n\n- flour\n- water\n- salt\n\n" * 12


@dataclass(frozen=True, slots=True)
class World:
    """Everything the measurements need; `students` are signed in."""

    settings: Settings
    servers: Servers
    product: Product
    sandbox: Sandbox
    db: Database
    owner: asyncpg.Connection
    temporal: Client
    bare_port: int
    bare_pid: int
    bare_worker_pid: int
    students: list[Account]
    free_courses: list[str]
    course_id: str
    lesson_id: str

    def pids(self) -> dict[str, int]:
        """The product's processes, all of which run, and the servers, by name."""
        ours = {name: self.product.pid(name) for name in PROCESSES}
        return ours | {name: self.servers.pid(name) for name in SERVERS}


@asynccontextmanager
async def world(
    *, processes: Sequence[str] = PROCESSES, students: int, catalogue: int = 0, **changes: object
) -> AsyncIterator[World]:
    """The named processes running, a catalogue of `catalogue` courses or more, and students who are signed in.

    `changes` replace sections of the settings.
    """
    servers = Servers()
    servers.acquire(os.getpid())
    try:
        async with isolation.corner(servers) as corner:
            with TemporaryDirectory(prefix="lyceum-bench-") as home:
                settings = _settings(corner, Path(home)).model_copy(update=changes)
                async with _running(servers, settings, Path(home), processes, students, catalogue) as made:
                    yield made
    finally:
        servers.release(os.getpid())


def _settings(corner: Settings, home: Path) -> Settings:
    """A run takes longer than an access token lives."""
    own = own_account(corner, home)
    return own.model_copy(update={"auth": own.auth.model_copy(update={"access_ttl": 3600}), "failpoints": ""})


@asynccontextmanager
async def _running(
    servers: Servers, settings: Settings, home: Path, processes: Sequence[str], students: int, catalogue: int
) -> AsyncIterator[World]:
    db = Database(settings.database, application_name="bench")
    owner = await asyncpg.connect(settings.database.owner_url.get_secret_value().replace("+asyncpg", ""))
    sandbox = Sandbox(settings)
    try:
        await owner.execute(SCHEMA)
        free_courses = await _seed_catalogue(db, catalogue)
        await setup(settings)
        await sandbox.listen()
        bare_port = free_port()
        async with (
            running(settings, home, processes) as product,
            _module("tests.bench.bare_api", str(bare_port), settings=settings) as bare_pid,
            _module("tests.bench.bare_worker", settings=settings) as bare_worker_pid,
        ):
            await _answers(bare_port)
            tokens = Tokens(settings.auth)
            course_id, lesson_id = await _author_course(db, tokens, product.http)
            yield World(
                settings=settings,
                servers=servers,
                product=product,
                sandbox=sandbox,
                db=db,
                owner=owner,
                temporal=await connect(settings),
                bare_port=bare_port,
                bare_pid=bare_pid,
                bare_worker_pid=bare_worker_pid,
                students=[await sign_in(db, tokens) for _ in range(students)],
                free_courses=free_courses,
                course_id=course_id,
                lesson_id=lesson_id,
            )
    finally:
        await sandbox.aclose()
        await owner.close()
        await db.dispose()


@asynccontextmanager
async def _module(name: str, *arguments: str, settings: Settings) -> AsyncIterator[int]:
    """A baseline's process for the length of a block; its pid."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LYCEUM_")},
        **isolation.as_environment(settings),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", name, *arguments, env=environment)
    try:
        yield process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(port: int) -> None:
    async def open_port() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await until(open_port, timeout=60, every=0.1)


async def _seed_catalogue(db: Database, size: int) -> list[str]:
    """Published courses for the search, half of them priced; those without a price can be enrolled in."""
    books, random = Catalogue(db, None), Random(1)  # type: ignore[arg-type]  # nothing is indexed here
    free: list[str] = []
    for number in range(max(size, 2 * PAIRS_PER_STUDENT)):
        price = {"price_amount": 4900, "price_currency": "usd"} if number % 2 else {}
        course_id = await books.add(
            f"{' '.join(random.sample(_WORDS, 2)).title()} {number}",
            summary=f"Learn {' and '.join(random.sample(_WORDS, 3))} in an evening.",
            description=" ".join(random.choices(_WORDS, k=120)),
            level=random.choice(["beginner", "intermediate", "advanced"]),
            **price,
        )
        if not price and len(free) < PAIRS_PER_STUDENT:
            free.append(str(course_id))
    return free


async def _author_course(db: Database, tokens: Tokens, http: httpx2.AsyncClient) -> tuple[str, str]:
    """A published course with a price, of 4 modules with 5 lessons each, as its teacher writes it; a lesson's id."""
    teacher = await sign_in(db, tokens, Role.TEACHER, Role.STUDENT)
    author = Author(http, teacher.headers)
    course_id = str((await author.course(capacity=None))["id"])
    lesson_id = ""
    for module in range(4):
        module_id = await author.module(course_id, f"Part {module}")
        for lesson in range(5):
            lesson_id = str((await author.lesson(module_id, f"Lesson {lesson}", body=_BODY))["id"])
    await author.publish(course_id)
    return course_id, lesson_id
