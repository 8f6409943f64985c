"""Enrollments as students meet them: joining a free course, leaving one, reading."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core import clock
from core.settings import Settings
from domain.enrollments import EnrollmentStatus
from domain.identity import Role
from services import enrollments
from tests.api.conftest import serving
from tests.api.counter import Counter, opened, shop_settings, without_temporal
from tests.support.accounts import Account
from tests.support.authoring import problem
from tests.support.stack import Servers


@pytest.fixture(scope="module")
async def house(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    async with shop_settings(servers, tmp_path_factory.mktemp("house")) as fresh:
        yield fresh


@pytest.fixture(scope="module")
async def shop(house: Settings) -> AsyncIterator[Counter]:
    async with opened(house) as counter:
        yield counter


async def enroll(shop: Counter, student: Account, course_id: str) -> Any:
    return await shop.client.post(f"/v1/courses/{course_id}/enrollments", headers=student.headers)


async def enrolled(shop: Counter, student: Account, course_id: str) -> dict[str, Any]:
    answer = await enroll(shop, student, course_id)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def withdraw(shop: Counter, student: Account, enrollment_id: str) -> Any:
    return await shop.client.post(f"/v1/enrollments/{enrollment_id}/withdraw", headers=student.headers)


async def events(shop: Counter, enrollment_id: str) -> list[str]:
    query = text("select type from outbox where subject = :subject order by seq")
    async with shop.db.read() as session:
        return list(await session.scalars(query, {"subject": f"enrollment/{enrollment_id}"}))


async def taken(shop: Counter, course_id: str) -> int:
    query = text("select count(*) from enrollments where course_id = :id and status = 'active'")
    async with shop.db.read() as session:
        count: int = (await session.execute(query, {"id": UUID(course_id)})).scalar_one()
        return count


# Joining


async def test_a_student_joins_a_free_course(shop: Counter) -> None:
    student, course = await shop.account(), await shop.course(None)
    enrollment = await enrolled(shop, student, course)
    assert enrollment == {
        "id": enrollment["id"],
        "course_id": course,
        "course_version": 1,
        "status": "active",
        "created_at": enrollment["created_at"],
        "expires_at": None,
        "ended_at": None,
        "ended_reason": None,
    }
    assert await shop.get(f"/enrollments/{enrollment['id']}", student) == enrollment
    assert await shop.get("/me/enrollments", student) == {"items": [enrollment], "next_cursor": None}
    assert await events(shop, enrollment["id"]) == ["enrollment.granted.v1"]
    [entry] = (await shop.get(f"/enrollments/{enrollment['id']}/timeline", student))["items"]
    assert entry == {
        "at": enrollment["created_at"],
        "actor": "student",
        "kind": "enrollment.granted",
        "message": "You have access to the course.",
        "details": {"source": "free"},
        "next_step": None,
        "next_at": None,
    }


async def test_joining_never_waits_for_temporal(shop: Counter, house: Settings) -> None:
    student, course = await shop.account(), await shop.course(None)
    async with serving(without_temporal(house)) as (_, elsewhere):
        answer = await elsewhere.post(f"/v1/courses/{course}/enrollments", headers=student.headers)
    assert answer.status_code == 201


async def test_joining_twice_is_refused(shop: Counter) -> None:
    student, course = await shop.account(), await shop.course(None)
    answers = await asyncio.gather(*(enroll(shop, student, course) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    for answer in answers:
        assert answer.status_code == 201 or problem(answer) == (409, "AlreadyEnrolled", [])
    assert await taken(shop, course) == 1


async def test_a_course_with_a_price_is_not_joined(shop: Counter) -> None:
    student, course = await shop.account(), await shop.course()
    assert problem(await enroll(shop, student, course)) == (409, "CourseNotFree", [])
    assert await taken(shop, course) == 0
    assert (await shop.place(student, course)).status_code == 201  # nothing was claimed


async def test_a_course_that_is_not_on_offer_is_not_found(shop: Counter) -> None:
    student = await shop.account()
    hidden = [await shop.course(None, status=status) for status in ("draft", "unpublished")]
    for course in (*hidden, str(uuid4())):
        assert problem(await enroll(shop, student, course)) == (404, "CourseNotForSale", [])


async def test_a_course_in_an_open_order_is_not_joined(shop: Counter) -> None:
    student, free, priced = await shop.account(), await shop.course(None), await shop.course()
    order = await shop.order(student, free, priced)
    answer = await enroll(shop, student, free)
    assert problem(answer) == (409, "CourseInOpenOrder", [])
    assert answer.json()["detail"] == f"Order {order['id']} for this course is still open."
    await shop.cancel(student, order["id"])
    await enrolled(shop, student, free)


async def test_no_more_students_join_than_there_are_seats(shop: Counter) -> None:
    course, students = await shop.course(None, capacity=3), [await shop.account() for _ in range(10)]
    answers = await asyncio.gather(*(enroll(shop, student, course) for student in students))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 7
    refused = [answer for answer in answers if answer.status_code == 409]
    assert {problem(answer)[1] for answer in refused} == {"SeatUnavailable"}
    assert await taken(shop, course) == 3


async def test_a_seat_held_by_an_order_is_not_given_away(shop: Counter) -> None:
    buyer, student = await shop.account(), await shop.account()
    free, priced = await shop.course(None, capacity=1), await shop.course()
    order = await shop.order(buyer, free, priced)
    assert problem(await enroll(shop, student, free)) == (409, "SeatUnavailable", [])
    await shop.cancel(buyer, order["id"])
    await enrolled(shop, student, free)


async def test_strangers_do_not_join(shop: Counter) -> None:
    answer = await shop.client.post(f"/v1/courses/{await shop.course(None)}/enrollments")
    assert problem(answer) == (401, "Unauthenticated", [])


# Leaving


async def test_a_student_leaves_and_may_come_back(shop: Counter) -> None:
    student, course = await shop.account(), await shop.course(None, capacity=1)
    enrollment = await enrolled(shop, student, course)
    answer = await withdraw(shop, student, enrollment["id"])
    left = answer.json()
    assert answer.status_code == 200
    assert left == enrollment | {"status": "withdrawn", "ended_reason": "withdrawn", "ended_at": left["ended_at"]}
    assert left["ended_at"] > enrollment["created_at"]
    assert (await withdraw(shop, student, enrollment["id"])).json() == left
    assert await events(shop, enrollment["id"]) == ["enrollment.granted.v1", "enrollment.withdrawn.v1"]
    told = (await shop.get(f"/enrollments/{enrollment['id']}/timeline", student))["items"]
    assert [entry["message"] for entry in told] == ["You have access to the course.", "You left the course."]

    again = await enrolled(shop, student, course)
    assert again["id"] != enrollment["id"]
    assert [each["status"] for each in (await shop.get("/me/enrollments", student))["items"]] == ["active", "withdrawn"]


async def test_a_seat_that_is_left_is_free(shop: Counter) -> None:
    first, second, course = await shop.account(), await shop.account(), await shop.course(None, capacity=1)
    enrollment = await enrolled(shop, first, course)
    assert problem(await enroll(shop, second, course)) == (409, "SeatUnavailable", [])
    assert (await withdraw(shop, first, enrollment["id"])).status_code == 200
    await enrolled(shop, second, course)


async def test_a_bought_course_can_be_left_and_bought_again(shop: Counter) -> None:
    student, course = await shop.account(), await shop.course()
    await shop.pay(await shop.order(student, course), student)
    [enrollment] = (await shop.get("/me/enrollments", student))["items"]
    assert problem(await shop.place(student, course)) == (409, "AlreadyEnrolled", [])
    assert (await withdraw(shop, student, enrollment["id"])).json()["status"] == "withdrawn"
    paid = await shop.pay(await shop.order(student, course), student)
    assert paid["status"] == "paid"


async def test_an_enrollment_that_was_ended_cannot_be_left(shop: Counter) -> None:
    student = await shop.account()
    enrollment = await enrolled(shop, student, await shop.course(None))
    async with shop.db.transaction() as session:
        await enrollments.end(
            session, UUID(enrollment["id"]), EnrollmentStatus.REVOKED, clock.now(), reason="chargeback"
        )
    answer = await withdraw(shop, student, enrollment["id"])
    assert problem(answer) == (409, "EnrollmentEnded", [])
    told = (await shop.get(f"/enrollments/{enrollment['id']}/timeline", student))["items"]
    assert told[-1]["message"] == "Access to the course ended (chargeback)."


async def test_without_temporal_leaving_must_be_asked_for_again(shop: Counter, house: Settings) -> None:
    student = await shop.account()
    enrollment = await enrolled(shop, student, await shop.course(None))
    async with serving(without_temporal(house)) as (_, elsewhere):
        answer = await elsewhere.post(f"/v1/enrollments/{enrollment['id']}/withdraw", headers=student.headers)
    assert (problem(answer), answer.headers["Retry-After"]) == ((503, "ServiceUnavailable", []), "5")
    assert await shop.get(f"/enrollments/{enrollment['id']}", student) == enrollment
    assert (await withdraw(shop, student, enrollment["id"])).json()["status"] == "withdrawn"


# Reading


async def test_other_peoples_enrollments_are_not_found(shop: Counter) -> None:
    student, stranger = await shop.account(), await shop.account()
    enrollment = await enrolled(shop, student, await shop.course(None))
    for who, enrollment_id in ((stranger, enrollment["id"]), (student, str(uuid4()))):
        for method, path in (("GET", ""), ("GET", "/timeline"), ("POST", "/withdraw")):
            answer = await shop.client.request(method, f"/v1/enrollments/{enrollment_id}{path}", headers=who.headers)
            assert problem(answer) == (404, "EnrollmentNotFound", [])
    assert (await shop.get("/me/enrollments", stranger))["items"] == []
    assert await shop.get(f"/enrollments/{enrollment['id']}", await shop.account(Role.ADMIN)) == enrollment


async def test_my_enrollments_are_paged_newest_first(shop: Counter) -> None:
    student = await shop.account()
    joined = [(await enrolled(shop, student, await shop.course(None)))["id"] for _ in range(5)]
    shown: list[str] = []
    cursor: dict[str, Any] = {}
    for size in (2, 2, 1):
        page = await shop.get("/me/enrollments", student, limit=2, **cursor)
        assert len(page["items"]) == size
        shown += [each["id"] for each in page["items"]]
        cursor = {"cursor": page["next_cursor"]}
    assert cursor == {"cursor": None}
    assert shown == joined[::-1]
