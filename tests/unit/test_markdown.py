import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.markdown import render


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("*a* **b** ~~c~~ `d`", "<p><em>a</em> <strong>b</strong> <s>c</s> <code>d</code></p>\n"),
        ("3. a", '<ol start="3">\n<li>a</li>\n</ol>\n'),
        (
            "```python evil\n<b>\n```",
            '<pre><code class="language-python">&lt;b&gt;\n</code></pre>\n',
        ),
        (
            "| a |\n|--:|\n| 1 |",
            '<table>\n<thead>\n<tr>\n<th style="text-align:right">a</th>\n</tr>\n</thead>\n'
            '<tbody>\n<tr>\n<td style="text-align:right">1</td>\n</tr>\n</tbody>\n</table>\n',
        ),
        (
            '[a](https://b.example "t")',
            '<p><a href="https://b.example" title="t" rel="noopener noreferrer nofollow ugc">a</a></p>\n',
        ),
        ("![a](https://b.example/c.png)", '<p><img src="https://b.example/c.png" alt="a"></p>\n'),
        ("![a](http://b.example/c.png)", '<p><img alt="a"></p>\n'),
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
        ("<img src=x onerror=alert(1)>", "<p>&lt;img src=x onerror=alert(1)&gt;</p>\n"),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>\n"),
        ("[a](JaVaScRiPt&colon;alert(1))", "<p>[a](JaVaScRiPt:alert(1))</p>\n"),
        ("[a](data:text/html;base64,AAAA)", "<p>[a](data:text/html;base64,AAAA)</p>\n"),
    ],
)
def test_markdown_becomes_safe_html(markdown: str, html: str) -> None:
    assert render(markdown) == html


HOSTILE = st.sampled_from(
    [
        "<script>",
        "</script>",
        "<img src=x onerror=alert(1)>",
        "javascript:",
        "](",
        "[a",
        ")",
        "```",
        "`",
        "\n",
        "|",
        "<a href=",
        '"',
    ]
)


@given(st.lists(st.one_of(HOSTILE, st.text(max_size=5)), max_size=20).map("".join))
def test_nothing_that_runs_survives(markdown: str) -> None:
    tags = re.findall(r"<(/?[a-z0-9]+)([^>]*)>", render(markdown), re.IGNORECASE)
    for name, attributes in tags:
        assert name.lstrip("/").lower() not in {"script", "iframe", "object", "style", "svg", "form", "input"}
        assert not re.search(r"\son[a-z]+\s*=", re.sub(r'"[^"]*"', '""', attributes), re.IGNORECASE)
        assert not re.search(r'(href|src)="\s*(javascript|data|vbscript):', attributes, re.IGNORECASE)
