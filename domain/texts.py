"""Text that people type."""

import unicodedata
from typing import Final

_BIDI_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def one_line(text: str) -> str:
    """The text as one line that fits a mail header or a log: no control characters, no doubled spaces."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def is_one_line(text: str) -> bool:
    """Whether this is one line that shows as it is written: no control characters, breaks or reversed directions.

    Joiners stay: emoji and several scripts are made with them.
    """
    return not any(char in _BIDI_CONTROLS or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text)
