"""A teacher at work: courses made through the API, and files stored as a browser stores them."""

import hashlib
from typing import Any
from uuid import UUID

import httpx2

Headers = dict[str, str]

COURSE = {
    "title": "Fresh Bread",
    "summary": "Bake a loaf you are proud of.",
    "description": "Flour, water, salt and *time*.",
    "language": "en",
    "level": "beginner",
    "category": "cooking",
    "tags": ["bread", "baking"],
    "price": {"amount": 4900, "currency": "usd"},
    "capacity": 30,
}
PDF = b"%PDF-1.7\n" + b"a slide\n" * 64


class Author:
    """Calls the API as one teacher and expects every call to succeed."""

    def __init__(self, client: httpx2.AsyncClient, headers: Headers) -> None:
        self.client = client
        self.headers = headers

    async def call(self, method: str, path: str, json: Any = None, *, status: int) -> Any:
        answer = await self.client.request(method, f"/v1{path}", json=json, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    async def course(self, **fields: Any) -> dict[str, Any]:
        """A draft with every field set, and no module."""
        return dict(await self.call("POST", "/courses", COURSE | fields, status=201))

    async def module(self, course_id: str, title: str = "Flour") -> str:
        return str((await self.call("POST", f"/courses/{course_id}/modules", {"title": title}, status=201))["id"])

    async def lesson(self, module_id: str, title: str = "Milling", **fields: Any) -> dict[str, Any]:
        body = {"title": title, "body": "Grain becomes *flour*."} | fields
        return dict(await self.call("POST", f"/modules/{module_id}/lessons", body, status=201))

    async def publish(self, course_id: str) -> dict[str, Any]:
        return dict(await self.call("POST", f"/courses/{course_id}/publish", status=200))

    async def published(self, **fields: Any) -> tuple[str, str, str]:
        """A published course of one module with one lesson: their ids."""
        course_id = (await self.course(**fields))["id"]
        module_id = await self.module(course_id)
        lesson_id = (await self.lesson(module_id))["id"]
        await self.publish(course_id)
        return course_id, module_id, lesson_id

    async def outline(self, course_id: str) -> dict[str, list[str]]:
        """Lesson titles by module title, in order."""
        outline = await self.call("GET", f"/courses/{course_id}/outline", status=200)
        return {module["title"]: [lesson["title"] for lesson in module["lessons"]] for module in outline["modules"]}

    async def begin_upload(self, content: bytes = PDF, **declared: Any) -> dict[str, Any]:
        """An upload declared as what it is, unless `declared` says otherwise."""
        body = {
            "filename": "slides.pdf",
            "content_type": "application/pdf",
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "purpose": "attachment",
        }
        return dict(await self.call("POST", "/uploads", body | declared, status=201))

    async def upload(self, content: bytes = PDF, **declared: Any) -> str:
        """A completed upload's id."""
        upload = await self.begin_upload(content, **declared)
        parts = await store(upload, content)
        completed = await self.call("POST", f"/uploads/{upload['id']}/complete", {"parts": parts}, status=200)
        assert completed["status"] == "completed"
        return str(upload["id"])


async def store(upload: dict[str, Any], content: bytes) -> list[dict[str, Any]]:
    """PUTs the parts straight to S3; what `complete` wants to know of them."""
    parts = []
    async with httpx2.AsyncClient() as browser:
        for part in upload["parts"]:
            chunk, content = content[: part["size"]], content[part["size"] :]
            answer = await browser.put(part["url"], content=chunk)
            assert answer.status_code == 200, answer.text
            parts.append({"number": part["number"], "etag": answer.headers["etag"]})
    return parts


async def fetch(url: str) -> httpx2.Response:
    """A GET without credentials."""
    async with httpx2.AsyncClient() as browser:
        return await browser.get(url)


def problem(answer: httpx2.Response) -> tuple[int, str, list[tuple[str, str]]]:
    """Status, code, and the fields with their codes."""
    body = answer.json()
    return answer.status_code, body["code"], [(error["field"], error["code"]) for error in body["errors"]]


def random_tail(course_id: str) -> str:
    return UUID(course_id).hex[-8:]
