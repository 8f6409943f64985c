"""The client. Calls are never retried here: whoever calls retries with the same key."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, cast
from uuid import UUID

import aiohttp
import stripe

from core.integrations.stripe.errors import StripeRefused, classified
from core.integrations.stripe.states import (
    CheckoutSession,
    CheckoutState,
    StripeRefund,
    checkout_of,
    refund_of,
    session_of,
)
from core.settings import StripeSettings

stripe.enable_telemetry = False

_CLOCK_SKEW = timedelta(minutes=5)
_PAGE = 100
_SESSION_DETAILS = ["payment_intent.latest_charge.balance_transaction"]

Reason = Literal["duplicate", "fraudulent", "requested_by_customer"]


class StripeGateway:
    """The platform's account at Stripe. Use on one event loop; close when done."""

    def __init__(self, settings: StripeSettings) -> None:
        self._settings = settings
        self._http: stripe.AIOHTTPClient | None = None
        self._client: stripe.StripeClient | None = None

    @property
    def _api(self) -> stripe.StripeClient:
        if self._client is None:
            self._http = stripe.AIOHTTPClient(timeout=aiohttp.ClientTimeout(total=self._settings.timeout))
            self._client = stripe.StripeClient(
                self._settings.secret_key.get_secret_value(),
                http_client=self._http,
                base_addresses={"api": self._settings.api_base} if self._settings.api_base else None,
                max_network_retries=0,
            )
        return self._client

    async def aclose(self) -> None:
        """Give connections back; the gateway may be used again afterwards."""
        if self._http is not None:
            await self._http.close_async()  # type: ignore[no-untyped-call]
        self._http = self._client = None

    async def create_checkout(
        self,
        *,
        idempotency_key: str,
        order_id: UUID,
        attempt: int,
        student_email: str | None,
        lines: Sequence[tuple[str, int]],
        currency: str,
        expires_at: datetime,
        success_url: str,
        cancel_url: str,
    ) -> CheckoutSession:
        """Open a payment page for `lines` of (name, amount in `currency`); `expires_at` must be 30 min to 24 h away."""
        names = {"order_id": str(order_id), "attempt": str(attempt)}
        params: stripe.params.checkout.SessionCreateParams = {
            "mode": "payment",
            "client_reference_id": str(order_id),
            "metadata": names,
            "payment_intent_data": {"metadata": names},
            "expires_at": int(expires_at.timestamp()),
            "success_url": success_url,
            "cancel_url": cancel_url,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {"currency": currency, "unit_amount": amount, "product_data": {"name": name}},
                }
                for name, amount in lines
            ],
        }
        if student_email:
            params["customer_email"] = student_email
        with classified():
            created = await self._api.v1.checkout.sessions.create_async(params, {"idempotency_key": idempotency_key})
        return session_of(created.to_dict())

    async def find_checkout(self, order_id: UUID, attempt: int, created_after: datetime) -> CheckoutSession | None:
        """The session an earlier, unanswered `create_checkout` may have opened; needs no idempotency key."""
        since = int((created_after - _CLOCK_SKEW).timestamp())
        with classified():
            page = await self._api.v1.checkout.sessions.list_async({"created": {"gte": since}, "limit": _PAGE})
            async for session in page.auto_paging_iter():
                found = session.to_dict()
                named = found.get("client_reference_id"), (found.get("metadata") or {}).get("attempt")
                if named == (str(order_id), str(attempt)):
                    return session_of(found)
        return None

    async def retrieve_checkout(self, checkout_id: str) -> CheckoutState:
        """A session with its payment, charge and balance transaction, as they are now."""
        with classified():
            found = await self._api.v1.checkout.sessions.retrieve_async(checkout_id, {"expand": _SESSION_DETAILS})
        return checkout_of(found.to_dict())

    async def expire_checkout(self, checkout_id: str, *, idempotency_key: str) -> CheckoutState:
        """Close a payment page. One that was paid or expired in the meantime stays as it is and is returned so."""
        try:
            with classified():
                await self._api.v1.checkout.sessions.expire_async(
                    checkout_id, options={"idempotency_key": idempotency_key}
                )
        except StripeRefused as refusal:
            state = await self.retrieve_checkout(checkout_id)
            if state.status == "open":
                raise refusal
            return state
        return await self.retrieve_checkout(checkout_id)

    async def create_refund(
        self, *, idempotency_key: str, charge_id: str, amount: int, reason: str | None, metadata: dict[str, str]
    ) -> StripeRefund:
        """Give back part of a charge. `reason` is one of Stripe's: duplicate, fraudulent, requested_by_customer."""
        params: stripe.params.RefundCreateParams = {
            "charge": charge_id,
            "amount": amount,
            "metadata": metadata,
            "expand": ["balance_transaction"],
        }
        if reason:
            params["reason"] = cast(Reason, reason)
        with classified():
            created = await self._api.v1.refunds.create_async(params, {"idempotency_key": idempotency_key})
        return refund_of(created.to_dict())

    async def retrieve_refund(self, refund_id: str) -> StripeRefund:
        with classified():
            found = await self._api.v1.refunds.retrieve_async(refund_id, {"expand": ["balance_transaction"]})
        return refund_of(found.to_dict())

    async def list_refunds(self, payment_intent_id: str) -> list[StripeRefund]:
        """Every refund of a payment, newest first."""
        with classified():
            page = await self._api.v1.refunds.list_async(
                {"payment_intent": payment_intent_id, "limit": _PAGE, "expand": ["data.balance_transaction"]}
            )
            return [refund_of(refund.to_dict()) async for refund in page.auto_paging_iter()]
