"""Reads, free enrollment and login: one request each, against a bare endpoint or the bare hash."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count, cycle
from uuid import UUID

from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import update

from core import clock
from core.db import Database
from core.ids import new_id
from core.security.passwords import Passwords
from models.identity import User
from services import enrollments, seats
from tests.bench.figures import Figure, Side, compare
from tests.bench.load import Load, drive, fetch, request
from tests.bench.world import World
from tests.support.accounts import PASSWORD, Account

READ_GOAL = WRITE_GOAL = 0.25
LOGIN_GOAL = 0.80
_QUERIES = ("garden", "pyhton", "chess his", "watercolour", "", "bread&level=beginner", "sail", "poetry&sort=newest")


async def reads(world: World, *, pairs: int, seconds: float) -> list[Figure]:
    """Search, outline and lesson; the baseline answers the very bytes from one query."""
    student = world.students[0]
    await _enroll(world.db, student.user_id, UUID(world.course_id))
    searches = [request("GET", f"/v1/search/courses?q={query.replace(' ', '+')}") for query in _QUERIES]
    outline = request("GET", f"/v1/courses/{world.course_id}/outline", student.headers)
    lesson = request("GET", f"/v1/lessons/{world.lesson_id}", student.headers)
    unasked = (request("GET", f"/v1/search/courses?q=garden&price_max={number}") for number in count(5000))
    told = (
        ("Outline of a course", "as a signed-in student", [outline], cycle([outline]), READ_GOAL),
        ("Lesson", "as a student of the course", [lesson], cycle([lesson]), READ_GOAL),
        (
            "Search",
            f"{len(searches)} searches in turns; an answer is given again for 2 s",
            searches,
            cycle(searches),
            READ_GOAL,
        ),
        (
            "Search, never asked before",
            "OpenSearch works for every answer: words with typing errors forgiven, four facets counted, highlights",
            [request("GET", "/v1/search/courses?q=garden&price_max=4999")],
            unasked,
            None,
        ),
    )
    figures = []
    for name, note, bodies, requests, goal in told:
        same = [await _store(world, await fetch(world.settings.api.port, each)) for each in bodies]
        ours = Side(name.lower(), _round(world.settings.api.port, requests, seconds), world.product.pid("api"))
        theirs = Side("the same bytes, one query", _round(world.bare_port, cycle(same), seconds), world.bare_pid)
        figures.append(await compare(name, ours, theirs, pairs=pairs, goal=goal, note=note))
    return figures


def _round(port: int, requests: Iterator[bytes], seconds: float, status: int = 200) -> Callable[[], Awaitable[Load]]:
    return partial(drive, port, requests, seconds=seconds, status=status)


async def _store(world: World, body: bytes) -> bytes:
    """Has the bare endpoint answer `body`; the request for it."""
    row_id = new_id()
    await world.owner.execute("insert into bench_bodies (id, body) values ($1, $2)", row_id, body.decode())
    stored = request("GET", f"/read/{row_id}")
    assert await fetch(world.bare_port, stored) == body
    return stored


async def _enroll(db: Database, student_id: UUID, course_id: UUID) -> None:
    async with db.transaction() as session:
        offer = (await seats.lock_offers(session, [course_id]))[course_id]
        await enrollments.grant(session, student_id, offer, clock.now(), source="admin", actor_id=student_id)


async def enrollment(world: World, *, pairs: int, seconds: float) -> Figure:
    """Free enrollment: claim, enrollment, grant, timeline and event in one transaction, against one insert."""
    wanted = _spread(world.free_courses, world.students)
    ours = (request("POST", f"/v1/courses/{course}/enrollments", who.headers) for course, who in wanted)
    theirs = (request("POST", f"/insert/{new_id()}/{course}") for course in cycle(world.free_courses))
    return await compare(
        "Free enrollment",
        Side("enrollments", _round(world.settings.api.port, ours, seconds, 201), world.product.pid("api")),
        Side("one insert, committed", _round(world.bare_port, theirs, seconds, 201), world.bare_pid),
        pairs=pairs,
        goal=WRITE_GOAL,
        note="the request alone; the event and the process it starts are somebody else's work, later",
    )


def _spread(courses: Sequence[str], students: Sequence[Account]) -> list[tuple[str, Account]]:
    """Each student and each course once together, neighbours having nothing in common."""
    return [
        (courses[(turn + number) % len(courses)], student)
        for turn in range(len(courses))
        for number, student in enumerate(students)
    ]


async def login(world: World, *, pairs: int, seconds: float) -> Figure:
    """Login against the bare verification of the same hash in as many threads."""
    auth = world.settings.auth
    stored = await Passwords(auth).hash(PASSWORD)
    users = world.students[: 4 * auth.argon2_concurrency]
    async with world.db.transaction() as session:
        await session.execute(
            update(User).where(User.id.in_([user.user_id for user in users])).values(password_hash=stored)
        )
    bodies = [{"email": user.email, "password": PASSWORD} for user in users]
    logins = cycle([request("POST", "/v1/auth/login", body=body) for body in bodies])
    with ThreadPoolExecutor(auth.argon2_concurrency) as threads:
        return await compare(
            "Login",
            Side(
                "logins",
                partial(drive, world.settings.api.port, logins, seconds=seconds, connections=len(users)),
                world.product.pid("api"),
            ),
            Side("bare Argon2id", partial(_verify, threads, auth.argon2_concurrency, stored, seconds)),
            pairs=pairs,
            goal=LOGIN_GOAL,
            note=f"{auth.argon2_memory} KiB, {auth.argon2_time} passes; {auth.argon2_concurrency} threads each",
        )


async def _verify(threads: ThreadPoolExecutor, concurrency: int, stored: str, seconds: float) -> Load:
    hasher = Argon2Hasher()

    def work() -> int:
        done, deadline = 0, time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            assert hasher.verify(PASSWORD, stored)
            done += 1
        return done

    loop, started = asyncio.get_running_loop(), time.perf_counter()
    done = await asyncio.gather(*(loop.run_in_executor(threads, work) for _ in range(concurrency)))
    return Load(sum(done), time.perf_counter() - started)
