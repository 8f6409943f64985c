"""The mail catcher's box: parsing, addressing, and what survives a restart."""

from email.message import EmailMessage
from pathlib import Path

from starlette.testclient import TestClient

from deploy.local.mail_catcher import Mailbox, web


def mail(subject: str, *, html: str = "") -> bytes:
    message = EmailMessage()
    message["From"] = "Lyceum <no-reply@lyceum.example>"
    message["To"] = "Ada <Ada@example.org>"
    message["Subject"] = subject
    message.set_content(f"text of {subject} ✓")
    if html:
        message.add_alternative(html, subtype="html")
    return message.as_bytes()


def test_messages_are_found_by_recipient_in_any_case(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "mail" / "messages.jsonl")
    mailbox.add(mail("Grüße", html="<p>hi</p>"), ["Ada@example.org"])
    mailbox.add(mail("other"), ["bob@example.org"])
    with TestClient(web(mailbox)) as client:
        found = client.get("/api/messages", params={"to": "ada@EXAMPLE.org"}).json()
    assert found == [
        {
            "id": 1,
            "from": "no-reply@lyceum.example",
            "to": "ada@example.org",
            "subject": "Grüße",
            "text": "text of Grüße ✓\n",
            "html": "<p>hi</p>\n",
        }
    ]


def test_messages_survive_a_restart_and_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    first = Mailbox(path)
    message = first.add(mail("kept"), ["ada@example.org"])
    with path.open("a") as file:
        file.write('{"id": 2, "sen')
    second = Mailbox(path)
    assert second.find() == [message]
    later = second.add(mail("later"), ["ada@example.org"])
    assert Mailbox(path).find("ada@example.org") == [message, later]


def test_the_page_shows_mail_as_text_never_as_markup(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "messages.jsonl")
    mailbox.add(mail("<script>alert(1)</script>"), ["ada@example.org"])
    mailbox.add(mail("open http://127.0.0.1/verify?a=1&b=2"), ["ada@example.org"])
    with TestClient(web(mailbox)) as client:
        page = client.get("/").text
        assert "<script>" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        link = "http://127.0.0.1/verify?a=1&amp;b=2"
        assert f'open <a href="{link}">{link}</a>' in page
        assert client.delete("/api/messages").status_code == 204
        assert "Nothing yet." in client.get("/").text


def test_formatted_mail_is_shown_alone_and_can_run_nothing(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "messages.jsonl")
    mailbox.add(mail("plain"), ["ada@example.org"])
    mailbox.add(mail("pretty", html="<p>hi</p><script>alert(1)</script>"), ["ada@example.org"])
    with TestClient(web(mailbox)) as client:
        assert client.get("/").text.count('<a href="/messages/') == 1
        shown = client.get("/messages/2")
        assert "<p>hi</p>" in shown.text
        assert shown.headers["content-security-policy"].startswith("sandbox allow-popups; default-src 'none'")
        assert client.get("/messages/9").status_code == 404
