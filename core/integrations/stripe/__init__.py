"""Stripe: Checkout Sessions, charges, refunds and webhooks, as the product needs them."""

from core.integrations.stripe.errors import StripeMisuse, StripeRefused, StripeTransient, classified
from core.integrations.stripe.gateway import StripeGateway
from core.integrations.stripe.states import (
    ChargeState,
    CheckoutSession,
    CheckoutState,
    PaymentState,
    StripeRefund,
)
from core.integrations.stripe.webhooks import BadSignature, WebhookEvent, parse_webhook

__all__ = [
    "BadSignature",
    "ChargeState",
    "CheckoutSession",
    "CheckoutState",
    "PaymentState",
    "StripeGateway",
    "StripeMisuse",
    "StripeRefund",
    "StripeRefused",
    "StripeTransient",
    "WebhookEvent",
    "classified",
    "parse_webhook",
]
