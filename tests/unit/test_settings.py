"""What settings derive from each other."""

import pytest
from pydantic import SecretStr

from core.settings import StripeSettings


@pytest.mark.parametrize(
    ("key", "live"),
    [("sk_live_1", True), ("rk_live_1", True), ("sk_test_1", False), ("rk_test_1", False), ("", False)],
)
def test_the_stripe_key_says_whether_payments_are_live(key: str, live: bool) -> None:
    assert StripeSettings(secret_key=SecretStr(key)).livemode is live
