"""`lyceum stripe-sandbox`: serve the sandbox on loopback.

Environment: LYCEUM_PORTS__STRIPE (8420), LYCEUM_STRIPE_SANDBOX__STATE (`.lyceum/stripe.db`),
LYCEUM_STRIPE_SANDBOX__PUBLIC_URL (where browsers reach the payment page; default: where the API was called). With
LYCEUM_STRIPE_SANDBOX__WEBHOOK_URL set, that endpoint is registered at start for LYCEUM_STRIPE__SECRET_KEY with the
first of LYCEUM_STRIPE__WEBHOOK_SECRETS.
"""

import logging
import os

import uvicorn

from deploy.stripe_sandbox import endpoints
from deploy.stripe_sandbox.app import create_app
from deploy.stripe_sandbox.sandbox import Sandbox, account_of

HOST = "127.0.0.1"
"""It takes test cards from anybody, so it listens on loopback only. In a container, whose own loopback nobody else
reaches, LYCEUM_STRIPE_SANDBOX__HOST opens it to the containers beside it."""


def run() -> None:
    """Serve until stopped."""
    logging.basicConfig(level=logging.WARNING)
    env = os.environ
    app = create_app(
        env.get("LYCEUM_STRIPE_SANDBOX__STATE", ".lyceum/stripe.db"), env.get("LYCEUM_STRIPE_SANDBOX__PUBLIC_URL", "")
    )
    if url := env.get("LYCEUM_STRIPE_SANDBOX__WEBHOOK_URL"):
        key, secrets = env.get("LYCEUM_STRIPE__SECRET_KEY", ""), env.get("LYCEUM_STRIPE__WEBHOOK_SECRETS", "")
        register_webhook(app.state.sandbox, key, url, secrets.partition(",")[0].strip())
    port = int(env.get("LYCEUM_PORTS__STRIPE", "8420"))
    uvicorn.run(
        app,
        host=env.get("LYCEUM_STRIPE_SANDBOX__HOST", HOST),
        port=port,
        access_log=False,
        proxy_headers=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )


def register_webhook(sandbox: Sandbox, secret_key: str, url: str, secret: str) -> None:
    """Have all events of an account sent to `url`, signed with a secret both sides already know."""
    if not secret_key or not secret:
        raise SystemExit("a webhook URL needs LYCEUM_STRIPE__SECRET_KEY and LYCEUM_STRIPE__WEBHOOK_SECRETS")
    with sandbox.store.transaction():
        endpoints.register(sandbox.context(account_of(secret_key)), url, secret, ["*"])


if __name__ == "__main__":
    run()
