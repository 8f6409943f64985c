"""The API documentation needs nothing from elsewhere."""

import re

import httpx2


async def test_the_page_loads_only_what_is_served_here(client: httpx2.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert loaded == ["/docs/favicon.png", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/docs/start.js"]
    for path in loaded:
        assert (await client.get(path)).status_code == 200, path


async def test_the_policy_lets_the_page_run_its_own_scripts_only(client: httpx2.AsyncClient) -> None:
    policy = (await client.get("/docs")).headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none';" in policy


async def test_other_files_of_the_package_are_not_served(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/docs/redoc.standalone.js")
    assert (answer.status_code, answer.json()["code"]) == (404, "NotFound")
