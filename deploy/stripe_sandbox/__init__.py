"""A stateful stand-in for Stripe's API, spoken to by the official client over HTTP. Never part of production."""
