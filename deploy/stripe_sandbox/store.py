"""Everything the sandbox remembers, in one SQLite file.

WAL with `synchronous=NORMAL`: a commit is in the file before the call returns, so killing the process loses nothing.
One connection and one thread: transactions are serial, which is what makes an idempotency key safe.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from deploy.stripe_sandbox.schema import JSON

_LINKS = ("customer", "payment_intent", "charge", "source", "type", "status", "product", "email")
_SCHEMA = f"""
create table if not exists objects (
  seq integer primary key autoincrement, id text not null unique, account text not null, object text not null,
  created integer not null, data text not null, private text not null default '{{}}',
  {",".join(f"{name} text generated always as (data ->> '{name}') virtual" for name in _LINKS)});
create index if not exists objects_kind on objects (account, object, seq);
create index if not exists objects_customer on objects (customer, seq) where customer is not null;
create index if not exists objects_intent on objects (payment_intent, seq) where payment_intent is not null;
create index if not exists objects_charge on objects (charge, seq) where charge is not null;
create index if not exists objects_source on objects (source, seq) where source is not null;
create table if not exists jobs (
  id integer primary key, account text not null, due real not null, kind text not null, subject text not null);
create index if not exists jobs_due on jobs (due);
create index if not exists jobs_subject on jobs (subject);
create table if not exists deliveries (
  id integer primary key, account text not null, event text not null, endpoint text not null, due real not null,
  attempt integer not null default 0, forgery text not null default '', status text not null default 'pending',
  response integer);
create index if not exists deliveries_due on deliveries (due) where status = 'pending';
create index if not exists deliveries_event on deliveries (event);
create table if not exists idempotency (
  account text not null, key text not null, hash text not null, path text not null, status integer not null,
  body blob not null, request text not null, created real not null, primary key (account, key)) without rowid;
create index if not exists idempotency_created on idempotency (created);
create table if not exists requests (
  seq integer primary key, account text not null, at real not null, method text not null, path text not null,
  key text, status integer not null, replayed integer not null, fault text);
create index if not exists requests_path on requests (path);
create table if not exists meta (key text primary key, value text not null) without rowid;
"""


class Store:
    """Stripe objects by id, plus the sandbox's own tables through `execute`."""

    def __init__(self, path: Path | str) -> None:
        if str(path) != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, cached_statements=256, check_same_thread=False)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._db.execute("begin immediate")
        try:
            yield
            self._db.commit()
        except BaseException:
            self._db.rollback()
            raise

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self._db.execute(sql, values)

    def insert(self, account: str, obj: JSON, private: JSON | None = None) -> None:
        """Keep a new object. `private` is what the sandbox knows about it and Stripe's API does not show."""
        self.execute(
            "insert into objects (id, account, object, created, data, private) values (?, ?, ?, ?, ?, ?)",
            obj["id"],
            account,
            obj["object"],
            obj.get("created", 0),
            orjson.dumps(obj).decode(),
            orjson.dumps(private or {}).decode(),
        )

    def save(self, obj: JSON) -> None:
        self.execute("update objects set data = ? where id = ?", orjson.dumps(obj).decode(), obj["id"])

    def save_private(self, object_id: str, private: JSON) -> None:
        self.execute("update objects set private = ? where id = ?", orjson.dumps(private).decode(), object_id)

    def delete(self, object_id: str) -> None:
        self.execute("delete from objects where id = ?", object_id)

    def find(self, object_id: str, account: str | None = None) -> JSON | None:
        """The object, or None when there is none or it belongs to another account."""
        row = self.execute("select data, account from objects where id = ?", object_id).fetchone()
        if row is None or (account is not None and row[1] != account):
            return None
        loaded: JSON = orjson.loads(row[0])
        return loaded

    def private(self, object_id: str) -> JSON:
        row = self.execute("select private from objects where id = ?", object_id).fetchone()
        loaded: JSON = orjson.loads(row[0]) if row else {}
        return loaded

    def owner(self, object_id: str) -> str | None:
        """The account an object belongs to."""
        row = self.execute("select account from objects where id = ?", object_id).fetchone()
        return str(row[0]) if row else None

    def select(
        self, account: str | None, kind: str, where: dict[str, Any], *, limit: int, after: int = 0, before: int = 0
    ) -> list[JSON]:
        """Objects of a kind, newest first. `where` maps SQL conditions with one `?` to values."""
        clauses, values = ["object = ?"], [kind]
        if account is not None:
            clauses.append("account = ?")
            values.append(account)
        if after:
            clauses.append(f"seq < {after:d}")
        if before:
            clauses.append(f"seq > {before:d}")
        clauses += where.keys()
        values += where.values()
        order = "asc" if before else "desc"
        rows = self._db.execute(
            f"select data from objects where {' and '.join(clauses)} order by seq {order} limit {limit:d}",  # noqa: S608
            values,
        ).fetchall()
        return [orjson.loads(row[0]) for row in (reversed(rows) if before else rows)]

    def position(self, object_id: str) -> int | None:
        """Where an object stands in the order of creation, for cursors."""
        row = self.execute("select seq from objects where id = ?", object_id).fetchone()
        return int(row[0]) if row else None

    def meta(self, key: str, default: Any) -> Any:
        row = self.execute("select value from meta where key = ?", key).fetchone()
        return orjson.loads(row[0]) if row else default

    def set_meta(self, key: str, value: Any) -> None:
        self.execute(
            "insert into meta values (?, ?) on conflict (key) do update set value = excluded.value",
            key,
            orjson.dumps(value).decode(),
        )
