"""What a handler works with: one account, one transaction, one instant."""

import random
import string
from collections.abc import Callable
from typing import Any, Protocol

from deploy.stripe_sandbox import schema
from deploy.stripe_sandbox.clock import Clock
from deploy.stripe_sandbox.errors import invalid, missing
from deploy.stripe_sandbox.schema import JSON
from deploy.stripe_sandbox.store import Store

_ALPHABET = string.ascii_letters + string.digits
_EXPAND_DEPTH = 4
_RANGE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
CURSORS = ("limit", "starting_after", "ending_before")
PAGE = (*CURSORS, "created")
"""Parameters of lists."""


def new_id(prefix: str, length: int = 24) -> str:
    """An id as Stripe's look: `pi_3Qd…`."""
    return f"{prefix}_{''.join(random.choices(_ALPHABET, k=length))}"  # noqa: S311


def limit_of(params: JSON) -> int:
    """How many objects a list request wants, from one cursor at most."""
    limit: int = params.get("limit", 10)
    if not 1 <= limit <= 100:
        raise invalid("Invalid integer: limit must be between 1 and 100", param="limit")
    if "starting_after" in params and "ending_before" in params:
        raise invalid("You may only specify one of these parameters: starting_after, ending_before.")
    return limit


class Announcer(Protocol):
    """Whoever plans the deliveries of an event."""

    def plan(self, account: str, event: JSON) -> int: ...


class Context:
    """Reads and writes of one account. Everything happens at `now` (seconds, the account's clock)."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        announcer: Announcer,
        account: str,
        *,
        base_url: str = "",
        request_id: str | None = None,
        key: str | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.account = account
        self.base_url = base_url
        self.now = int(clock.now(account))
        self._announcer = announcer
        self._request = {"id": request_id, "idempotency_key": key}

    def get(self, kind: str, object_id: str, param: str = "id") -> JSON:
        """The object of that kind, or Stripe's `resource_missing`."""
        found = self.store.find(object_id, self.account)
        if found is None or found["object"] != kind:
            raise missing(kind.rpartition(".")[2].replace("_", " "), object_id, param)
        return self.present(found)

    def present(self, obj: JSON) -> JSON:
        """Fields that depend on the hour."""
        if obj["object"] == "balance_transaction":
            obj["status"] = "available" if obj["available_on"] <= self.now else "pending"
        elif obj["object"] == "event":
            row = self.store.execute(
                "select count(*) from deliveries where event = ? and status = 'pending'", obj["id"]
            ).fetchone()
            obj["pending_webhooks"] = row[0]
        return obj

    def page(self, kind: str, url: str, params: JSON, filters: dict[str, Any] | None = None) -> JSON:
        """A list reply: newest first, `limit` (1..100, default 10), cursors, `created` ranges, SQL `filters`."""
        limit = limit_of(params)
        where = {condition: value for condition, value in (filters or {}).items() if value is not None}
        created = params.get("created")
        if isinstance(created, dict):
            where |= {f"created {_RANGE[name]} ?": value for name, value in created.items()}
        elif created is not None:
            where["created = ?"] = created
        after = self._cursor(kind, params, "starting_after")
        before = self._cursor(kind, params, "ending_before")
        found = self.store.select(self.account, kind, where, limit=limit + 1, after=after, before=before)
        more = len(found) > limit
        data = (found[1:] if before else found[:limit]) if more else found
        return {"object": "list", "data": [self.present(obj) for obj in data], "has_more": more, "url": url}

    def _cursor(self, kind: str, params: JSON, name: str) -> int:
        if not (object_id := params.get(name)):
            return 0
        self.get(kind, object_id, name)
        return self.store.position(object_id) or 0

    def emit(self, kind: str, obj: JSON, previous: JSON | None = None) -> None:
        """Record an event with the object as it is now, and plan its deliveries."""
        data: JSON = {"object": obj}
        if previous is not None:
            data["previous_attributes"] = previous
        event: JSON = {
            "id": new_id("evt"),
            "object": "event",
            "api_version": schema.api_version(),
            "created": self.now,
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": self._request,
            "type": kind,
        }
        event["pending_webhooks"] = self._announcer.plan(self.account, event)
        self.store.insert(self.account, event)

    def schedule(self, kind: str, subject: str, delay: float) -> None:
        """Have a job run `delay` seconds from now."""
        self.store.execute(
            "insert into jobs (account, due, kind, subject) values (?, ?, ?, ?)",
            self.account,
            self.clock.wall() + delay,
            kind,
            subject,
        )

    def setting(self, name: str) -> float:
        """One of the tunable delays, seconds."""
        return settings_of(self.store, self.account)[name]


DEFAULT_SETTINGS: dict[str, float] = {
    "balance_transaction_delay": 1.0,  # charge -> its balance transaction; negative: never
    "available_delay": 2 * 86400.0,  # balance transaction -> its money is available
    "refund_delay": 5.0,  # asynchronous refunds -> their outcome
    "debit_delay": 180.0,  # bank debits -> their outcome
}


def settings_of(store: Store, account: str | None) -> dict[str, float]:
    """An account's settings: its own over everyone's over the defaults."""
    own: dict[str, float] = store.meta(f"settings:{account}", {}) if account else {}
    shared: dict[str, float] = store.meta("settings", {})
    return DEFAULT_SETTINGS | shared | own


def change_settings(store: Store, account: str | None, changes: dict[str, float]) -> None:
    """Change an account's settings, or everyone's. Call in a transaction."""
    if unknown := changes.keys() - DEFAULT_SETTINGS.keys():
        raise invalid(f"Unknown settings: {', '.join(sorted(unknown))}")
    key = f"settings:{account}" if account else "settings"
    store.set_meta(key, store.meta(key, {}) | changes)


Include = Callable[[Context, JSON], Any]
INCLUDABLE: dict[tuple[str, str], Include] = {}
"""Properties that are there only when asked for: (object, property) -> how to make it."""


def expand(ctx: Context, obj: JSON, paths: list[str]) -> None:
    """Replace ids by objects along dotted paths, as `expand[]` asks."""
    for path in paths:
        steps = path.split(".")
        if len(steps) > _EXPAND_DEPTH + (obj["object"] == "list"):
            raise invalid(f"You cannot expand more than {_EXPAND_DEPTH} levels of a property", param="expand")
        _expand(ctx, obj, steps)


def _expand(ctx: Context, node: Any, steps: list[str]) -> None:
    if isinstance(node, list):
        for item in node:
            _expand(ctx, item, steps)
        return
    name, *rest = steps
    if include := INCLUDABLE.get((node.get("object", ""), name)):
        node.setdefault(name, None)
        node[name] = node[name] or include(ctx, node)
    elif name not in node or not (node[name] is None or isinstance(node[name], (str, dict, list))):
        raise invalid(f"This property cannot be expanded ({name}).", param="expand")
    elif isinstance(value := node[name], str):
        found = ctx.store.find(value, ctx.account)
        if found is None:
            raise invalid(f"This property cannot be expanded ({name}).", param="expand")
        node[name] = ctx.present(found)
    if rest and node[name] is not None:
        _expand(ctx, node[name], rest)
