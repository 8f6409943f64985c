"""A purchase in fair weather: the measure for every fault."""

from tests.support.shop import Shop


async def test_purchase_is_booked_granted_and_announced_once(shop: Shop) -> None:
    course = await shop.course()
    purchase = await shop.buy(course)

    assert await shop.status(purchase.order_id) == "paid"
    assert await shop.postings(purchase.order_id) == ["sale", "settle"]
    assert await shop.enrollments(course) == 1
    assert await shop.events(purchase.order_id) == ["order.placed.v1", "order.paid.v1", "order.settled.v1"]
    await shop.reconciles()
