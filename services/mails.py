"""The text and HTML parts of a notification's mail."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment


def _environment(*, autoescape: bool) -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


_TEXT = _environment(autoescape=False)
_HTML = _environment(autoescape=True)


@dataclass(frozen=True, slots=True)
class Parts:
    text: str
    html: str


def render(*, name: str, title: str, body: str, rows: list[list[str]], action: Mapping[str, str] | None) -> Parts:
    """Both parts. `body` is paragraphs with a blank line between; `rows` are label and value; `action` label and url.

    `name` may be empty. Everything may come from people: the HTML part escapes it.
    """
    context: dict[str, Any] = {
        "name": name,
        "title": title,
        "paragraphs": body.split("\n\n"),
        "rows": rows,
        "action": action,
    }
    return Parts(_TEXT.get_template("mail.txt.j2").render(context), _HTML.get_template("mail.html.j2").render(context))
