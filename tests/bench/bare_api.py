"""The baseline of reads and writes: a FastAPI endpoint over an asyncpg pool that does one statement and nothing else.

`python -m tests.bench.bare_api PORT` serves it with the settings of the environment.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import uvicorn
from fastapi import FastAPI, Request, Response

from core.settings import Settings

SCHEMA = """
create table bench_bodies (id uuid primary key, body text not null);
create table bench_rows (
  id uuid primary key, student_id uuid not null, course_id uuid not null,
  created_at timestamptz not null default now(), unique (student_id, course_id)
);
"""


def create_app(settings: Settings) -> FastAPI:
    """`GET /read/{id}` answers a stored body; `POST /insert/{student}/{course}` stores a row."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = settings.database.url.get_secret_value().replace("+asyncpg", "")
        size = settings.database.pool_size
        async with asyncpg.create_pool(url, min_size=size, max_size=size) as pool:
            app.state.pool = pool
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/read/{id}")
    async def read(id: UUID, request: Request) -> Response:
        body = await request.app.state.pool.fetchval("select body from bench_bodies where id = $1", id)
        return Response(body, media_type="application/json")

    @app.post("/insert/{student_id}/{course_id}", status_code=201)
    async def insert(student_id: UUID, course_id: UUID, request: Request) -> Response:
        row_id = uuid4()
        await request.app.state.pool.execute(
            "insert into bench_rows (id, student_id, course_id) values ($1, $2, $3)", row_id, student_id, course_id
        )
        return Response(f'{{"id":"{row_id}"}}', status_code=201, media_type="application/json")

    return app


def main(port: int) -> None:
    uvicorn.run(
        create_app(Settings()), port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
