"""The story of four purchases, told through the public API, the payment page, the mail and RabbitMQ."""

import asyncio
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from aio_pika.exceptions import AMQPError
from httpx2 import HTTPError
from rich.console import Console

from core.settings import Settings
from deploy.demo import report
from deploy.demo.seed import Seeded, seed
from deploy.demo.stage import Person, Stage, StepFailed, check, open_stage, until
from deploy.demo.tale import Chapter, Link, Rescue, Tale, Timeline
from deploy.demo.witness import Witness, listen
from deploy.local.stack import Stack, script
from deploy.local.state import ServiceState, StackState

GOOD_CARD = "4242 4242 4242 4242"
DECLINED_CARD = "4000 0000 0000 0002"

SQL, STATISTICS, PROOFS = "sql-that-answers-questions", "statistics-without-fear", "proofs-you-can-trust"
GERMAN, SYSTEMS, PYTHON = "german-for-everyday-errands", "systems-that-finish", "python-from-first-principles"
PUBLISHED_LIVE = (SQL, STATISTICS, PROOFS)
AUTHOR = "tomas-lindqvist"


def run(stack: Stack, console: Console | None = None) -> int:
    """Tells the story on a running stack and prints the report. Returns the exit status: 0 when every step held."""
    console = console or report.console()
    settings = Settings(_env_file=stack.env_file)
    try:
        tale = asyncio.run(_tell(stack, settings, console))
    except (AMQPError, OSError) as error:
        console.print(f"The stack does not answer: {error}", style="red", markup=False)
        return 1
    report.show(tale, console)
    return 1 if tale.failure else 0


async def _tell(stack: Stack, settings: Settings, console: Console) -> Tale:
    tale = Tale(run=secrets.token_hex(3), password=_password(stack))
    async with (
        open_stage(
            api=settings.api.public_url,
            stripe=settings.stripe.api_base,
            mail=f"http://127.0.0.1:{stack.ports['mail']}",
            run=tale.run,
            password=tale.password,
        ) as stage,
        listen(settings.rabbitmq) as witness,
    ):
        await Story(stage, stack, settings, witness, tale, console).tell()
    return tale


def _password(stack: Stack) -> str:
    """One password for everybody in the demo, made once for each stack."""
    path = stack.data("demo") / "password"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(f"{secrets.token_hex(3)}-{secrets.token_hex(3)}", encoding="utf-8")
    return path.read_text(encoding="utf-8")


class Story:
    """The chapters in order. Each returns the facts it established, and raises `StepFailed` where one did not hold."""

    def __init__(
        self, stage: Stage, stack: Stack, settings: Settings, witness: Witness, tale: Tale, console: Console
    ) -> None:
        self.stage, self.stack, self.settings = stage, stack, settings
        self.witness, self.tale, self.console = witness, tale, console
        self.catalogue: Seeded
        self.orders: dict[str, str] = {}
        self.timelines: list[tuple[str, str, Person]] = []

    async def tell(self) -> None:
        """Until the end, or until a chapter fails."""
        chapters: Sequence[tuple[str, Callable[[], Awaitable[list[str]]]]] = (
            ("Teachers fill the catalogue", self.fill_catalogue),
            ("Tomas publishes three of his courses", self.publish),
            ("Maya searches with a typing error and buys", self.buy),
            ("Oskar's card is declined and his order expires", self.expire),
            ("Priya takes a free course", self.enroll_free),
            ("Samuel buys while the worker is killed", self.survive),
            ("The books, the events and the mail", self.audit),
            ("One order is left for you", self.leave_one),
        )
        for title, chapter in chapters:
            started = time.monotonic()
            facts: list[str] = []
            error = ""
            with self.console.status(f"{title} …"):
                try:
                    facts = await chapter()
                except StepFailed as failure:
                    error = str(failure)
                except (HTTPError, AMQPError, OSError, LookupError, ValueError) as failure:
                    error = f"{type(failure).__name__}: {failure}"
            done = Chapter(title, time.monotonic() - started, facts, error)
            self.tale.chapters.append(done)
            report.announce(done, self.console)
            if error:
                return

    def _email(self, name: str) -> str:
        return f"{name.split()[0].lower()}.{self.tale.run}@lyceum.example"

    async def _newcomer(self, name: str) -> Person:
        person = await Person.arrive(self.stage, name, self._email(name))
        self.tale.accounts.append((name, person.email))
        return person

    async def _found(self) -> set[str]:
        """The ids of every course in the search."""
        answer = await self.stage.call("GET", "/search/courses", params={"limit": 100})
        return {hit["id"] for hit in answer["items"]}

    async def _findable(self, courses: Collection[str]) -> None:
        async def found() -> bool:
            return set(courses) <= await self._found()

        await until("the published courses to be found by search", found)

    async def _take_back(self, author: Person, courses: Collection[str]) -> None:
        """Unpublishes what an earlier run has published, and waits until the search has forgotten it."""
        for id in courses:
            if (await author.get(f"/courses/{id}"))["status"] == "published":
                await author.post(f"/courses/{id}/unpublish")

        async def forgotten() -> bool:
            return set(courses).isdisjoint(await self._found())

        await until("the search to forget the unpublished courses", forgotten)

    # The chapters

    async def fill_catalogue(self) -> list[str]:
        self.catalogue = await seed(self.stage, drafts=PUBLISHED_LIVE)
        courses = self.catalogue.courses.values()
        await self._findable([id for slug, id in self.catalogue.ids.items() if slug not in PUBLISHED_LIVE])
        lessons = sum(course.lesson_count for course in courses)
        author = self.catalogue.teachers[AUTHOR]
        self.tale.accounts.append((f"{author.name} (teacher)", author.email))
        return [
            f"{len(courses)} courses with {lessons} lessons in {len({c.category for c in courses})} categories and "
            f"{len({c.language for c in courses})} languages, by {len(self.catalogue.teachers)} teachers",
            f"{self.catalogue.written} written now through the API, the others found as they were"
            if self.catalogue.written < len(courses)
            else "all written now, lesson by lesson, through the API",
        ]

    async def publish(self) -> list[str]:
        tomas = self.catalogue.teachers[AUTHOR]
        ids = [self.catalogue.ids[slug] for slug in PUBLISHED_LIVE]
        await self._take_back(tomas, ids)
        started = time.monotonic()
        for id in ids:
            await tomas.post(f"/courses/{id}/publish")
        published = time.monotonic()
        await self._findable(ids)
        return [
            f"{len(ids)} courses published in {published - started:.2f} s",
            f"found by search {time.monotonic() - published:.2f} s later, through outbox, RabbitMQ and OpenSearch "
            "(answers are kept for up to 2 s)",
        ]

    async def buy(self) -> list[str]:
        maya = await self._newcomer("Maya Chen")
        answer = await self.stage.call("GET", "/search/courses", params={"q": "sql qestions"})
        check(answer["items"], "a search for “sql qestions” finds something")
        first, course = answer["items"][0], self.catalogue.courses[SQL]
        check(
            first["id"] == self.catalogue.ids[SQL],
            f"“sql qestions” finds {course.title!r} first, not {first['title']!r}",
        )
        lesson = await self._first_lesson(first["id"])
        await maya.get(f"/lessons/{lesson}", expect=403)
        order = await self._order(maya, SQL, repeat=True)
        paid_at = await self._pay(order, maya)
        await self._until_status(maya, order["id"], "paid")
        opened = time.monotonic() - paid_at
        await maya.get(f"/lessons/{lesson}")
        mail = await until("the mail about the course", lambda: self.stage.mails(maya.email, course.title))
        self.tale.mail = mail[-1]
        notices = (await maya.get("/me/notifications"))["items"]
        check(notices, "Maya has a notification")
        enrollment = await self._enrollment(maya, SQL)
        self._remember(f"Maya's order: {course.title}", f"/orders/{order['id']}/timeline", maya)
        self._remember(f"Maya's enrollment: {course.title}", f"/enrollments/{enrollment}/timeline", maya)
        self.orders["maya"] = order["id"]
        return [
            f"“sql qestions” found “{first['title']}” first of {answer['total']}",
            "asking twice under one Idempotency-Key gave the same order",
            f"the lesson was closed before (403) and open {opened:.2f} s after the card was charged",
            f"a notification in her account, and a mail: “{mail[-1]['subject']}”",
        ]

    async def expire(self) -> list[str]:
        oskar = await self._newcomer("Oskar Lund")
        order = await self._order(oskar, GERMAN)
        page = await self.stage.browser.open(order["checkout_url"])
        page = await self.stage.browser.submit(page, **_card(DECLINED_CARD, oskar))
        check(
            "declined" in page.text.lower(), f"the payment page says that the card was declined, not: {page.text[:200]}"
        )
        status = (await oskar.get(f"/orders/{order['id']}"))["status"]
        check(status == "paying", f"a declined card leaves the order waiting for payment, not {status}")
        ttl = self.settings.platform.checkout_ttl
        started = time.monotonic()
        await self.stage.move_clock(ttl + 600)
        await self._until_status(oskar, order["id"], "expired")
        waited = time.monotonic() - started
        held = [
            e for e in (await oskar.get("/me/enrollments"))["items"] if e["course_id"] == self.catalogue.ids[GERMAN]
        ]
        check(not held, "an expired order gives no access")
        timeline = f"/orders/{order['id']}/timeline"
        kinds = [entry["kind"] for entry in (await oskar.get(timeline))["items"]]
        check(kinds[-1] == "order.expired", f"the timeline ends with the order's expiry, not {kinds[-1]}")
        self._remember(f"Oskar's order: {self.catalogue.courses[GERMAN].title}", timeline, oskar)
        return [
            "the payment page declined the card; nothing was charged, the seat stayed held",
            f"{(ttl + 600) // 60} minutes later by Stripe's clock ({waited:.2f} s by ours) the order had expired, "
            "with its seat given back",
        ]

    async def enroll_free(self) -> list[str]:
        priya = await self._newcomer("Priya Nair")
        course = self.catalogue.ids[STATISTICS]
        started = time.monotonic()
        enrollment = await priya.post(f"/courses/{course}/enrollments", expect=(200, 201))
        answered = time.monotonic() - started
        await priya.get(f"/lessons/{await self._first_lesson(course)}")
        self._remember(
            f"Priya's enrollment: {self.catalogue.courses[STATISTICS].title}",
            f"/enrollments/{enrollment['id']}/timeline",
            priya,
        )
        return [f"one request of {answered * 1000:.0f} ms, and the first lesson opens; Temporal was not waited for"]

    async def survive(self) -> list[str]:
        samuel = await self._newcomer("Samuel Osei")
        order = await self._order(samuel, SYSTEMS)
        worker = self._service("worker").pid
        if worker is None:
            raise StepFailed("there is no worker to kill")
        killed = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        charged = await self._pay(order, samuel) - killed
        status = (await samuel.get(f"/orders/{order['id']}"))["status"]
        check(status == "paying", f"without a worker the order is still waiting, not {status}")

        async def restarted() -> int | None:
            pid = self._service("worker").pid
            return pid if pid != worker else None

        fresh = await until("the supervisor to start another worker", restarted)
        came_back = time.monotonic() - killed
        await self._until_status(samuel, order["id"], "paid")
        granted = time.monotonic() - killed
        enrollments = [
            item
            for item in (await samuel.get("/me/enrollments"))["items"]
            if item["course_id"] == self.catalogue.ids[SYSTEMS]
        ]
        check(len(enrollments) == 1, f"the purchase gives one enrollment, not {len(enrollments)}")
        self.tale.rescue = Rescue(worker, fresh, charged, came_back, granted)
        self._remember(
            f"Samuel's order: {self.catalogue.courses[SYSTEMS].title}", f"/orders/{order['id']}/timeline", samuel
        )
        return [
            f"worker {worker} got SIGKILL, then the card was charged, with nobody there to notice",
            f"worker {fresh} took over after {came_back:.1f} s; access was open after {granted:.1f} s, once",
        ]

    async def audit(self) -> list[str]:
        admin = await self._admin()
        postings = (await admin.get(f"/admin/orders/{self.orders['maya']}/ledger"))["transactions"]
        entries = [entry for posting in postings for entry in posting["entries"]]
        check(entries, "the sale is in the ledger")
        total = sum(entry["amount"] for entry in entries)
        check(total == 0, f"the ledger of the sale sums to zero, not {total}")
        self.tale.ledger = postings

        async def heard() -> dict[str, Any] | None:
            return self.witness.find("order.paid.v1", order_id=self.orders["maya"])

        self.tale.event = await until("order.paid on RabbitMQ", heard)
        self.tale.events_seen = len(self.witness.events)
        for title, path, student in self.timelines:
            self.tale.timelines.append(Timeline(title, (await student.get(path))["items"]))
        staff = await admin.get(f"/orders/{self.orders['maya']}/timeline")
        self.tale.timelines.append(Timeline("Maya's order, as the staff reads it", staff["items"]))
        check(all(timeline.entries for timeline in self.tale.timelines), "every order and enrollment tells its story")
        stuck = (await admin.get("/admin/processes", params={"stuck": "true"}))["items"]
        check(not stuck, f"no process is stuck, not {len(stuck)}")
        return [
            f"{len(entries)} ledger entries of Maya's purchase in {len(postings)} transactions; they sum to zero",
            f"{self.tale.events_seen} events heard on the exchange {self.witness.exchange}",
            "no process is stuck",
        ]

    async def leave_one(self) -> list[str]:
        maya = await Person.sign_in(self.stage, "Maya Chen", self._email("Maya Chen"))
        order = await self._order(maya, PYTHON)
        ui = f"{self.settings.temporal.ui_url}/namespaces/{self.settings.temporal.namespace}/workflows"
        self.tale.links += [
            Link("Pay it yourself", order["checkout_url"], f"card {GOOD_CARD}, any future date, any three digits"),
            Link(
                "Its process",
                f"{ui}/order-{order['id']}",
                "“User Metadata” says what it waits for; pay and watch it go on",
            ),
            Link("Maya's order", f"{ui}/order-{self.orders['maya']}", "what the process did, step by step"),
            Link(
                "API", f"{self.stage.api}/docs", "every endpoint; POST /v1/auth/login gives the token for “Authorize”"
            ),
            Link("Mail", f"{self.stage.mail}/?to={maya.email}", "what Maya got"),
            Link("Stripe sandbox", self.stage.stripe, "every payment page, and the controls: clock, faults, webhooks"),
        ]
        return ["an open order of Maya waits for its payment"]

    # What several chapters do

    async def _order(self, buyer: Person, slug: str, *, repeat: bool = False) -> dict[str, Any]:
        """Places an order for one course and returns it; `repeat` clicks twice."""
        body = {"items": [{"course_id": self.catalogue.ids[slug]}]}
        headers = {"Idempotency-Key": f"{buyer.email}-{slug}"}
        order: dict[str, Any] = await buyer.post("/orders", body, expect=201, headers=headers)
        check(order.get("checkout_url"), "an order comes with a payment page")
        if repeat:
            again = await buyer.post("/orders", body, expect=(200, 201), headers=headers)
            check(again["id"] == order["id"], "the same Idempotency-Key gives the same order")
        return order

    async def _pay(self, order: dict[str, Any], buyer: Person) -> float:
        """Fills in the payment page like a person; the moment the money was taken."""
        page = await self.stage.browser.open(order["checkout_url"])
        check(page.status == 200, f"the payment page opens, not {page.status}")
        page = await self.stage.browser.submit(page, **_card(GOOD_CARD, buyer))
        check(page.status in (302, 303), f"the payment page sends the buyer back to the shop, not: {page.text[:200]}")
        return time.monotonic()

    async def _until_status(self, buyer: Person, order: str, status: str) -> None:
        async def reached() -> bool:
            return bool((await buyer.get(f"/orders/{order}"))["status"] == status)

        await until(f"{buyer.first_name}'s order to be {status}", reached)

    async def _first_lesson(self, course: str) -> str:
        outline = await self.stage.call("GET", f"/courses/{course}/outline")
        return str(outline["modules"][0]["lessons"][0]["id"])

    async def _enrollment(self, student: Person, slug: str) -> str:
        for item in (await student.get("/me/enrollments"))["items"]:
            if item["course_id"] == self.catalogue.ids[slug]:
                return str(item["id"])
        raise StepFailed(f"{student.first_name} is not enrolled in {slug}")

    def _remember(self, title: str, path: str, student: Person) -> None:
        """A timeline to be read when all is over."""
        self.timelines.append((title, path, student))

    async def _admin(self) -> Person:
        """An administrator, made by the command line as an operator would."""
        email = "admin@lyceum.example"
        command = [script("lyceum"), "admin", "create", "--email", email, "--name", "Ada Min"]
        environment = {**self.stack.child_environment(), "LYCEUM_ADMIN_PASSWORD": self.stage.password}
        done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)
        check(done.returncode == 0, f"`lyceum admin create` failed: {done.stderr.strip()[-300:]}")
        self.tale.accounts.append(("Ada Min (administrator)", email))
        return await Person.sign_in(self.stage, "Ada Min", email)

    def _service(self, name: str) -> ServiceState:
        """What `lyceum status` says of a service."""
        state = StackState.read(self.stack.state_file)
        if state is None:
            raise StepFailed("the stack is not running")
        return state.service(name)


def _card(number: str, buyer: Person) -> dict[str, str]:
    """What a person types into the payment page."""
    return {"email": buyer.email, "card": number, "expiry": "12 / 34", "cvc": "123", "name": buyer.name}
