"""The OpenAPI document kept to its word: thousands of generated requests, with and without a token."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from core.integrations.s3 import S3Storage
from core.settings import Settings
from search.setup import ensure_index
from tests.api.conftest import MakeUser
from tests.support.authoring import Author
from tests.support.product import own_account, running

_SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
# A body may be valid by its schema and still be refused: a taken address, a wrong password, a course without lessons.
_UNCHECKED = "positive_data_acceptance"
# Signing out ends the token of all later requests. The others wait for a process and say 503 where no worker runs;
# `test_fuzz.py` calls them with one.
_LEFT_OUT = (
    "/v1/auth/logout",
    "/v1/admin/processes/{process_id}/retry",
    "/v1/enrollments/{enrollment_id}/withdraw",
    "/v1/orders/{order_id}/cancel",
)


@pytest.fixture(scope="module")
async def url(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A served API with every backing service but no worker, so that waiting for a process ends soon."""
    home = tmp_path_factory.mktemp("contract")
    own = own_account(settings, home)
    own = own.model_copy(
        update={
            "temporal": own.temporal.model_copy(update={"rpc_timeout": 0.5}),
            # Thousands of failed logins from one origin must not lock the other tests out.
            "redis": own.redis.model_copy(update={"prefix": f"{own.redis.prefix}-contract"}),
        }
    )
    await ensure_index(own)
    await S3Storage(own.s3).ensure_bucket()
    async with running(own, home, ["api"]) as product:
        yield product.settings.api.public_url


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("signed_in", [True, False], ids=["with a token", "without a token"])
async def test_no_answer_is_a_5xx_or_undocumented(
    url: str, client: httpx2.AsyncClient, make_user: MakeUser, tmp_path: Path, *, signed_in: bool
) -> None:
    headers = await make_user("admin")
    course_id, _, _ = await Author(client, headers).published()
    config = tmp_path / "schemathesis.toml"
    config.write_text(f'[parameters]\n"path.course_id" = "{course_id}"\n')
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1", "--workers", "2"]
    options += ["--continue-on-failure", "--exclude-checks", _UNCHECKED]
    options += [word for path in _LEFT_OUT for word in ("--exclude-path", path)]
    if signed_in:
        options += ["--header", f"Authorization: {headers['Authorization']}"]
    run = await asyncio.create_subprocess_exec(
        *(str(_SCHEMATHESIS), "--no-color", "--config-file", str(config), "run", f"{url}/openapi.json", *options),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    report, _ = await run.communicate()
    assert run.returncode == 0, report.decode()[-20_000:]
