"""Text that people type."""

import unicodedata
from typing import Final

_BIDI_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_one_line(text: str) -> bool:
    """Whether this is one line that shows as it is written: no control characters, breaks or reversed directions.

    Joiners stay: emoji and several scripts are made with them.
    """
    return not any(char in _BIDI_CONTROLS or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text)
