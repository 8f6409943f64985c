"""Stripe: Checkout Sessions, charges, refunds and webhooks, as the product needs them."""

from core.integrations.stripe.errors import StripeMisuse, StripeRefused, StripeTransient, classified
from core.integrations.stripe.gateway import StripeGateway
from core.integrations.stripe.states import (
    BalanceTxn,
    ChargeState,
    CheckoutSession,
    CheckoutState,
    PaymentState,
    RefundState,
)
from core.integrations.stripe.webhooks import BadSignature, WebhookEvent, parse_webhook

__all__ = [
    "BadSignature",
    "BalanceTxn",
    "ChargeState",
    "CheckoutSession",
    "CheckoutState",
    "PaymentState",
    "RefundState",
    "StripeGateway",
    "StripeMisuse",
    "StripeRefused",
    "StripeTransient",
    "WebhookEvent",
    "classified",
    "parse_webhook",
]
