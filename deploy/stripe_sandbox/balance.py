"""Balance and balance transactions: what Stripe says the platform owns."""

from typing import Any

from deploy.stripe_sandbox.context import PAGE, Context, new_id
from deploy.stripe_sandbox.registry import api
from deploy.stripe_sandbox.schema import JSON


def book(ctx: Context, kind: str, amount: int, currency: str, source: str, *, fee: int = 0, delay: float = 0.0) -> JSON:
    """Record a movement of the balance; its money is available after `delay` seconds."""
    details = [{"amount": fee, "application": None, "currency": currency, "type": "stripe_fee"}] if fee else []
    for detail in details:
        detail["description"] = "Stripe processing fees"
    entry: JSON = {
        "id": new_id("txn"),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": int(ctx.now + delay),
        "balance_type": "payments",
        "created": ctx.now,
        "currency": currency,
        "description": None,
        "exchange_rate": None,
        "fee": fee,
        "fee_details": details,
        "net": amount - fee,
        "reporting_category": kind,
        "source": source,
        "status": "available" if delay <= 0 else "pending",
        "type": kind,
    }
    ctx.store.insert(ctx.account, entry)
    return entry


@api("GET", "/v1/balance")
def retrieve_balance(ctx: Context, params: JSON) -> JSON:
    rows = ctx.store.execute(
        "select data ->> 'currency', sum(iif(data ->> 'available_on' <= ?, data ->> 'net', 0)), sum(data ->> 'net') "
        "from objects where object = 'balance_transaction' and account = ? group by 1 order by 1",
        ctx.now,
        ctx.account,
    ).fetchall() or [("usd", 0, 0)]

    def part(amount: int, currency: str) -> dict[str, Any]:
        return {"amount": amount, "currency": currency, "source_types": {"card": amount}}

    return {
        "object": "balance",
        "available": [part(available, currency) for currency, available, _ in rows],
        "livemode": False,
        "pending": [part(total - available, currency) for currency, available, total in rows],
    }


@api("GET", "/v1/balance_transactions", *PAGE, "currency", "payout", "source", "type")
def list_balance_transactions(ctx: Context, params: JSON) -> JSON:
    filters = {
        "source = ?": params.get("source"),
        "type = ?": params.get("type"),
        "data ->> 'currency' = ?": params.get("currency"),
    }
    if params.get("payout"):
        filters["1 = ?"] = 0
    return ctx.page("balance_transaction", "/v1/balance_transactions", params, filters)


@api("GET", "/v1/balance_transactions/{id}")
def retrieve_balance_transaction(ctx: Context, params: JSON, id: str) -> JSON:
    return ctx.get("balance_transaction", id)
