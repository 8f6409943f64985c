from email.message import EmailMessage
from uuid import UUID

import pytest
from pydantic import SecretStr

from core.integrations.mail import Mail, SMTPMailer
from core.settings import SMTPSettings
from services.mails import render

_ID = UUID(int=7)


def test_the_text_part() -> None:
    parts = render(
        name="Ada & Co",
        title="Hello",
        body="One.\n\nTwo <three>.",
        rows=[["Total", "49.00 USD"], ["Order", "7"]],
        action={"label": "Confirm", "url": "https://lyceum.example/x?token=a.b"},
    )
    assert parts.text == (
        "Hello Ada & Co,\n\nOne.\n\nTwo <three>.\n\nTotal: 49.00 USD\nOrder: 7\n\n"
        "Confirm:\nhttps://lyceum.example/x?token=a.b\n\n"
        "-- \nLyceum\nYou get this mail because of what happened in your Lyceum account.\n"
    )


def test_the_html_part_escapes_what_people_wrote() -> None:
    evil = '<img src=x onerror="alert(1)">'
    parts = render(name=evil, title=evil, body=evil, rows=[[evil, evil]], action={"label": evil, "url": '"><script>'})
    assert "<img" not in parts.html
    assert "<script" not in parts.html
    assert parts.html.count("&lt;img src=x onerror=&#34;alert(1)&#34;&gt;") == 7


def test_somebody_without_a_name_is_greeted_too() -> None:
    parts = render(name="", title="t", body="b", rows=[], action=None)
    assert parts.text.startswith("Hello,\n\nb\n")
    assert ">Hello,</p>" in parts.html
    assert _message("", "Hi")["To"] == "ada@example.com"


def test_template_language_in_the_text_stays_text() -> None:
    parts = render(name="{{ 7 * 7 }}", title="t", body="{% raw %}", rows=[], action=None)
    assert parts.text.startswith("Hello {{ 7 * 7 }},\n\n{% raw %}\n")
    assert "{{ 7 * 7 }}" in parts.html


def _message(name: str, subject: str) -> EmailMessage:
    mailer = SMTPMailer(SMTPSettings(url=SecretStr("smtp://localhost:25"), sender="Lyceum <no-reply@lyceum.example>"))
    return mailer._message(Mail(_ID, name, "ada@example.com", subject, "text", "<p>html</p>"))


def test_headers_cannot_be_injected() -> None:
    message = _message("Ada\r\nBcc: eve@example.com", "Hi\nX-Evil: 1\x00")
    assert message["Subject"] == "Hi X-Evil: 1"
    assert message["To"] == '"Ada Bcc: eve@example.com" <ada@example.com>'
    assert message["Bcc"] is None
    assert message["From"] == "Lyceum <no-reply@lyceum.example>"


def test_the_same_mail_has_the_same_message_id() -> None:
    assert _message("Ada", "Hi")["Message-ID"] == f"<{_ID}@lyceum.example>"


@pytest.mark.parametrize("url", ["", "http://mail", "smtp://", "localhost:25"])
def test_an_address_that_is_none_is_refused_at_start(url: str) -> None:
    with pytest.raises(ValueError, match="LYCEUM_SMTP__URL"):
        SMTPMailer(SMTPSettings(url=SecretStr(url)))
