"""The `Idempotency-Key` header: the client's name for one intent, however often it is sent."""

from typing import Annotated

from fastapi import Header

IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Chosen by the client, e.g. a UUID. The same key with the same body answers the same again.",
    ),
]
"""A required header of printable ASCII: `key: IdempotencyKey`."""
