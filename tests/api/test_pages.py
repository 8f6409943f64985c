"""Where Stripe sends a buyer back to."""

import httpx2
import pytest

from core.ids import new_id


@pytest.mark.parametrize(
    ("outcome", "words"), [("success", "Your courses open as soon as"), ("cancel", "Nothing was paid")]
)
async def test_the_page_after_the_checkout_says_what_happens_next(
    client: httpx2.AsyncClient, outcome: str, words: str
) -> None:
    page = await client.get(f"/checkout/{new_id()}", params={"outcome": outcome})
    assert page.status_code == 200
    assert words in page.text


async def test_the_page_after_the_checkout_is_the_same_for_every_order(client: httpx2.AsyncClient) -> None:
    first, second = [(await client.get(f"/checkout/{new_id()}")).text for _ in range(2)]
    assert first == second
