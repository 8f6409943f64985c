"""Each role calls every operation about things that exist: the document is kept to its word there, too.

`test_contract` sends whatever the document allows, mostly about nothing; here the ids are those of the caller's own
course, lesson, upload, order and enrollment, with a worker to serve them. The cases are the same in every run.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, strategies
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

from core.db import Database
from core.security.tokens import Tokens
from core.settings import Settings
from deploy.setup import setup
from domain.identity import Role
from tests.support.accounts import Account, sign_in
from tests.support.authoring import Author
from tests.support.product import Product, own_account, running
from tests.support.wait import until

EXAMPLES = 8
"""Cases of one operation for one role."""

# A body may be valid by its schema and still be refused: a taken address, a course without lessons, a second order.
UNCHECKED = [positive_data_acceptance]
# What is read comes first, then what changes things, then what removes them; the session ends last.
ORDER = ["GET", "PATCH", "PUT", "POST", "DELETE"]

Operation = Any  # schemathesis.schemas.APIOperation, whose type parameters say nothing here

STUDENTS = {
    "GET /v1/lessons/{lesson_id}",
    "GET /v1/orders/{order_id}",
    "GET /v1/orders/{order_id}/timeline",
    "GET /v1/enrollments/{enrollment_id}",
    "POST /v1/orders",
    "POST /v1/orders/{order_id}/cancel",
    "POST /v1/enrollments/{enrollment_id}/withdraw",
}
TEACHERS = STUDENTS | {
    "GET /v1/uploads/{upload_id}",
    "PATCH /v1/courses/{course_id}",
    "POST /v1/courses/{course_id}/publish",
    "POST /v1/courses/{course_id}/unpublish",
    "POST /v1/modules/{module_id}/lessons",
    "DELETE /v1/lessons/{lesson_id}",
    "DELETE /v1/modules/{module_id}",
    "DELETE /v1/uploads/{upload_id}",
}
ADMINS = TEACHERS | {"GET /v1/admin/orders/{order_id}/ledger", "POST /v1/admin/processes/{process_id}/retry"}
SUCCEEDS = {"nobody": {"GET /v1/courses/{course_id}"}, "student": STUDENTS, "teacher": TEACHERS, "admin": ADMINS}
"""What must be answered with success at least once, or the cases are not as deep as they claim."""

load_all_checks()


@pytest.fixture(scope="module")
async def product(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    home = tmp_path_factory.mktemp("fuzz")
    own = own_account(settings, home)
    # Failed logins from one origin must lock nobody else out, a long run not its own callers; a busy worker is awaited.
    own = own.model_copy(
        update={
            "redis": own.redis.model_copy(update={"prefix": f"{own.redis.prefix}-fuzz"}),
            "auth": own.auth.model_copy(update={"access_ttl": 3600}),
            "temporal": own.temporal.model_copy(update={"rpc_timeout": 25.0}),
        }
    )
    await setup(own)
    async with running(own, home, ["api", "worker"]) as product:
        yield product


@pytest.fixture(scope="module")
def document(product: Product) -> Any:
    return schemathesis.openapi.from_url(f"{product.settings.api.public_url}/openapi.json")


class Caller:
    """One role's account and what it has."""

    def __init__(self, name: str, account: Account, ids: dict[str, str], courses: list[str]) -> None:
        self.headers = {} if name == "nobody" else account.headers
        self.ids, self.courses, self.succeeds = ids, courses, SUCCEEDS[name]

    def asks(self, operation: Operation) -> strategies.SearchStrategy[Any]:
        """Requests the document allows, about what the caller has, and now and then about nothing."""
        known = {name: self.ids[name] for name in _path_names(operation) if name in self.ids}
        asked: strategies.SearchStrategy[Any] = operation.as_strategy()
        if known:
            asked = strategies.one_of(*[operation.as_strategy(path_parameters=known)] * 3, asked)
        return asked.map(self._for_sale) if operation.label == "POST /v1/orders" else asked

    def _for_sale(self, case: Any) -> Any:
        case.body = {"items": [{"course_id": course_id} for course_id in self.courses[: len(case.body["items"])]]}
        return case


def _path_names(operation: Operation) -> list[str]:
    return [parameter.name for parameter in operation.path_parameters]


@pytest.fixture(scope="module", params=SUCCEEDS)
async def caller(request: pytest.FixtureRequest, product: Product, db: Database) -> Caller:
    tokens, http = Tokens(product.settings.auth), product.http
    role = Role.STUDENT if request.param == "nobody" else Role(request.param)
    account = await sign_in(db, tokens, *{role, Role.STUDENT})
    somebody = await sign_in(db, tokens, Role.TEACHER, Role.STUDENT)
    author = Author(http, account.headers if role is not Role.STUDENT else somebody.headers)
    course_id, module_id, lesson_id = await author.published(price=None)
    upload = await author.begin_upload()
    courses = [(await author.published(capacity=None))[0] for _ in range(3)]
    order_id = await _ordered(http, account, (await author.published())[0])
    joined = await http.post(f"/v1/courses/{course_id}/enrollments", headers=account.headers)
    assert joined.status_code == 201, joined.text
    ids = {
        "course_id": course_id,
        "module_id": module_id,
        "lesson_id": lesson_id,
        "upload_id": upload["id"],
        "order_id": order_id,
        "enrollment_id": joined.json()["id"],
        "process_id": f"order-{order_id}",
    }
    return Caller(request.param, account, ids, courses)


async def _ordered(http: httpx2.AsyncClient, account: Account, course_id: str) -> str:
    """An order that waits for its payment."""

    async def placed() -> str:
        answer = await http.post(
            "/v1/orders",
            json={"items": [{"course_id": course_id}]},
            headers={**account.headers, "Idempotency-Key": "fuzz"},
        )
        return str(answer.json()["id"]) if answer.status_code == 201 else ""

    return await until(placed, timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_answer_about_what_exists_is_documented(document: Any, caller: Caller) -> None:
    operations = [result.ok() for result in document.get_all_operations()]
    operations.sort(key=lambda each: (each.path.endswith("/logout"), ORDER.index(each.method.upper()), each.path))
    assert len(operations) > 40
    answered: set[tuple[str, int]] = set()
    with requests.Session() as session:
        for operation in operations:
            _fuzz(operation, caller, session, answered)()
    assert caller.succeeds - {label for label, status in answered if status < 300} == set()


def _fuzz(
    operation: Operation, caller: Caller, session: requests.Session, answered: set[tuple[str, int]]
) -> Callable[[], None]:
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(caller.asks(operation))
    def run(case: Any) -> None:
        answer = case.call_and_validate(session=session, headers=caller.headers, excluded_checks=UNCHECKED)
        answered.add((operation.label, answer.status_code))

    return run
