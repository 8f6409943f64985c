"""Stripe's webhooks: verified on the raw body, stored, acknowledged; then the process they concern is poked."""

from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Header, Request
from pydantic import BaseModel

from api.container import AppContainer
from api.deps import Container, public
from api.openapi import refusing
from core import failpoints, logs
from core.integrations.stripe import BadSignature, parse_webhook
from domain.errors import DomainError, Kind, NotFound
from services import stripe_events
from services.stripe_events import Target

router = APIRouter(prefix="/webhooks", tags=["webhooks"], dependencies=[public])
log = logs.get_logger(__name__)


class InvalidSignature(DomainError):
    """The request is not from Stripe, or too old."""

    kind = Kind.UNAUTHENTICATED
    title = "The signature is not valid"


class WebhookNotConfigured(NotFound):
    """Without a secret nothing can be verified, so nothing is believed."""

    title = "No webhook is expected here"


class Received(BaseModel):
    received: bool = True


@router.post("/stripe", responses=refusing(401))
async def stripe_webhook(
    request: Request,
    container: Container,
    background: BackgroundTasks,
    signature: Annotated[str, Header(alias="Stripe-Signature", max_length=2000)] = "",
) -> Received:
    """Answers 200 once the event is stored; the same event again is stored once."""
    secrets = container.settings.stripe.secrets
    if not secrets:
        raise WebhookNotConfigured("No webhook secret is configured.")
    try:
        event = parse_webhook(await request.body(), signature, secrets)
    except BadSignature as error:
        raise InvalidSignature("The Stripe-Signature header does not match the body.") from error
    failpoints.hit("api.webhook_not_stored")
    target = await stripe_events.store(container.db, event)
    failpoints.hit("api.webhook_stored")
    if target is not None:
        background.add_task(_dispatch, container, event.id, target)
    return Received()


async def _dispatch(container: AppContainer, event_id: str, target: Target) -> None:
    """Pokes at once; what fails here is poked by the sweeper (`api/sweeper.py`)."""
    try:
        await container.pokes.dispatch(target, event_id)
    except DomainError as error:
        log.warning("Stripe event not dispatched", stripe_event=event_id, error=error.code)
