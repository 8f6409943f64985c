"""Markdown as authors write it → HTML that is safe in any page."""

from typing import Final

import nh3
from anyio import CapacityLimiter, to_thread
from markdown_it import MarkdownIt

_TAGS: Final = {
    *("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "code", "em", "strong", "s"),
    *("ul", "ol", "li", "a", "img", "table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES: Final = {
    "a": {"href", "title"},
    "img": {"src", "alt", "title"},
    "code": {"class"},
    "ol": {"start"},
    "th": {"style"},
    "td": {"style"},
}


def _attribute(tag: str, name: str, value: str) -> str | None:
    """Languages of code blocks, https pictures and table alignment pass; other classes, sources and styles do not."""
    if name == "class":
        return value if value.startswith("language-") and " " not in value else None
    if name == "src":
        return value if value.startswith("https://") else None
    return value


_CLEANER: Final = nh3.Cleaner(
    tags=_TAGS,
    attributes=_ATTRIBUTES,
    attribute_filter=_attribute,
    url_schemes={"http", "https", "mailto"},
    filter_style_properties={"text-align"},
    link_rel="noopener noreferrer nofollow ugc",
)

_THREADS: Final = CapacityLimiter(2)


def render(markdown: str) -> str:
    """The HTML of CommonMark with tables and strikethrough. Raw HTML in it shows as text; nothing in it can run."""
    # A parser of its own for each call: rendering happens in threads.
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return _CLEANER.clean(parser.render(markdown))


async def render_aside(markdown: str) -> str:
    """`render` in a thread: a long text takes a tenth of a second, and one made to be slow more."""
    return await to_thread.run_sync(render, markdown, limiter=_THREADS)
