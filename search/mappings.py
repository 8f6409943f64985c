"""What the course index looks like.

`VERSION` goes up with every change here: `lyceum setup` then rebuilds the index in the new shape behind its alias.
"""

from typing import Any, Final

VERSION: Final = 1

_FOLDED: Final = {"type": "text", "analyzer": "folded"}

SETTINGS: Final[dict[str, Any]] = {
    "number_of_shards": 1,
    "auto_expand_replicas": "0-1",
    "refresh_interval": "1s",
    "analysis": {
        "char_filter": {
            # The tokenizer would drop the signs that tell C, C++ and C# apart, and keep "node.js" in one piece.
            "signs": {
                "type": "mapping",
                "mappings": [
                    "C++=>cplusplus",
                    "c++=>cplusplus",
                    "C#=>csharp",
                    "c#=>csharp",
                    "F#=>fsharp",
                    "f#=>fsharp",
                    ".=>\\u0020",
                    "_=>\\u0020",
                ],
            }
        },
        "analyzer": {
            "folded": {
                "type": "custom",
                "char_filter": ["signs"],
                "tokenizer": "standard",
                "filter": ["lowercase", "asciifolding"],
            }
        },
    },
}

MAPPINGS: Final[dict[str, Any]] = {
    "dynamic": "strict",
    # What is kept of a document is what a result shows.
    "_source": {"excludes": ["description", "title_sort", "price"]},
    "properties": {
        "id": {"type": "keyword"},
        "slug": {"type": "keyword", "index": False},
        # Every word of the course: the terms of a query may be spread over its fields.
        "text": _FOLDED,
        "title": _FOLDED | {"copy_to": "text"},
        "summary": _FOLDED | {"copy_to": "text"},
        "description": _FOLDED | {"copy_to": "text"},
        "tags": {"type": "keyword", "copy_to": "text", "fields": {"text": _FOLDED}},
        "title_sort": {"type": "keyword"},
        "category": {"type": "keyword", "copy_to": "text"},
        "level": {"type": "keyword"},
        "language": {"type": "keyword"},
        "price": {"type": "keyword"},
        "price_amount": {"type": "long"},
        "price_currency": {"type": "keyword", "index": False},
        "published_at": {"type": "date"},
    },
}

EVERY_COURSE: Final[dict[str, Any]] = {"exists": {"field": "published_at"}}
"""Matches all but the empty documents of courses that are not published any more."""
