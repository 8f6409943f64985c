"""Workflow ids: `<kind>-<uuid>`, built here and nowhere else. They are business keys: starting twice is joining."""

from uuid import UUID


def process_id(kind: str, subject_id: UUID) -> str:
    """The id of the process of that kind for that subject."""
    return f"{kind}-{subject_id}"
