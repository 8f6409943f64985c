"""docker-compose.yml, the Dockerfile and `.env.example`, read as data."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from pydantic import BaseModel

from core.settings import Settings, TemporalSettings
from deploy.docker import env
from deploy.local import services as embedded
from deploy.local.stack import Stack
from deploy.secrets import STRIPE
from workflows.shared import attributes
from workflows.worker import QUEUES

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
TEXT = "\n".join(
    line for line in (ROOT / "docker-compose.yml").read_text().splitlines() if not line.strip().startswith("#")
)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()

OURS = {name for name, service in SERVICES.items() if service["image"].startswith("lyceum:")}
JOBS = {"setup", "temporal-schema", "temporal-namespace"}
WAYS_OUT = {name for name, options in COMPOSE["networks"].items() if not (options or {}).get("internal")}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|KEYS?$|_PWD$|_PASS$")

every_service = pytest.mark.parametrize("name", SERVICES)
every_process = pytest.mark.parametrize("name", sorted(OURS - JOBS))


def environment(name: str) -> dict[str, str]:
    found: dict[str, str] = SERVICES[name].get("environment", {})
    return found


def holders(variable: str) -> set[str]:
    return {name for name in SERVICES if variable in environment(name)}


@every_service
def test_images_are_pinned_to_a_release(name: str) -> None:
    image = SERVICES[name]["image"]

    assert re.fullmatch(r"[a-z0-9/-]+:(v?\d+\.\d+(\.\d+)?(-[a-z]+)?|\$\{LYCEUM_VERSION:-\d+\.\d+\.\d+\})", image)


@every_service
def test_services_say_whether_they_are_well_and_jobs_are_waited_for(name: str) -> None:
    health = SERVICES[name]["healthcheck"]
    if name in JOBS:
        assert health == {"disable": True}
        assert SERVICES[name]["restart"] == "on-failure:5"
        waited = [service.get("depends_on", {}).get(name) for service in SERVICES.values()]
        assert {"condition": "service_completed_successfully"} in waited
    else:
        assert health["test"][0] in ("CMD", "CMD-SHELL")
        assert {"interval", "timeout", "start_period", "retries"} <= health.keys()
        assert SERVICES[name]["restart"] == "unless-stopped"


@every_service
def test_ports_are_published_on_loopback_only(name: str) -> None:
    assert "network_mode" not in SERVICES[name]
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{LYCEUM_PORTS__[A-Z0-9_]+:-\d+\}:\d+", port)


@every_service
def test_containers_are_confined(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))


@pytest.mark.parametrize("name", sorted({*OURS, "stripe", "valkey", "mail", "postgres", "temporal"}))
def test_file_systems_are_read_only(name: str) -> None:
    assert SERVICES[name]["read_only"] is True


@every_process
def test_processes_get_the_time_they_need_to_stop(name: str) -> None:
    assert SERVICES[name]["stop_grace_period"] == "45s"
    assert TemporalSettings().graceful_shutdown < 45


def test_no_secret_has_a_default() -> None:
    names = set(re.findall(r"\$\{([A-Z0-9_]+)(?::-|\})", TEXT))
    assert {name for name in names if SECRET.search(name)} == set()
    for service in SERVICES:
        for name, value in environment(service).items():
            if SECRET.search(name):
                assert re.fullmatch(r"\$\{[A-Z0-9_]+:\?\}", value), (service, name)
    assert re.search(r"://[^$\s/]*:[^$\s/]+@", TEXT) is None


def test_the_example_names_every_variable_and_no_secret() -> None:
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", TEXT))
    required = set(re.findall(r"\$\{([A-Z0-9_]+):\?\}", TEXT))
    named = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", EXAMPLE, re.MULTILINE))
    empty = set(re.findall(r"^([A-Z0-9_]+)=$", EXAMPLE, re.MULTILINE))

    assert empty == required == env.GENERATORS.keys() | STRIPE.keys()
    assert used - named == {"LYCEUM_VERSION"}
    assert named - used == {"COMPOSE_PROFILES"}


def test_an_env_file_has_fresh_secrets_and_leaves_stripe_to_a_person() -> None:
    first, second = (
        dict(re.findall(r"^([A-Z0-9_]+)=(.+)$", env.filled(EXAMPLE, sandbox=False), re.MULTILINE)) for _ in range(2)
    )

    assert first.keys() == second.keys() == env.GENERATORS.keys()
    assert all(first[name] != second[name] for name in first)
    for name in ("POSTGRES_PASSWORD", "LYCEUM_DB_PASSWORD", "VALKEY_PASSWORD", "RABBITMQ_PASSWORD"):
        assert re.fullmatch(r"[0-9a-f]{48}", first[name])


def test_an_env_file_for_the_sandbox_is_complete() -> None:
    text = env.filled(EXAMPLE, sandbox=True)

    assert re.findall(r"^([A-Z0-9_]+)=$", text, re.MULTILINE) == []
    assert "\nCOMPOSE_PROFILES=sandbox\nLYCEUM_STRIPE__API_BASE=http://stripe:8420\n" in text


def test_an_env_file_is_its_owners_alone_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    env.write(path, sandbox=True)
    written = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600

    with pytest.raises(FileExistsError):
        env.write(path, sandbox=True)
    assert path.read_text() == written


def test_every_process_of_the_embedded_stack_is_there() -> None:
    ours = {tuple(SERVICES[name]["command"]) for name in {*OURS, "stripe"}}
    commands = {
        service.name: service.command(cast(Stack, None)) for service in (*embedded.PRODUCT, embedded.STRIPE_SANDBOX)
    }
    theirs = {tuple(arguments) for program, *arguments in commands.values() if Path(program).name == "lyceum"}

    queues = {("worker", "--queue", queue) for queue in QUEUES}
    assert ours == (theirs - {("worker",)}) | queues


def test_every_server_of_the_embedded_stack_is_there() -> None:
    servers = {service.name for service in embedded.table() if service.kind == "server"}

    assert servers - {"epmd"} <= SERVICES.keys()


def _settings(model: type[BaseModel], prefix: str) -> set[str]:
    names = set()
    for field, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names |= _settings(info.annotation, f"{prefix}{field}__".upper())
        else:
            names.add(f"{prefix}{field}".upper())
    return names


@pytest.mark.parametrize("name", sorted(OURS))
def test_processes_are_configured_with_settings_that_exist(name: str) -> None:
    known = _settings(Settings, "LYCEUM_") | {"LYCEUM_HEALTH_PORT", "FORWARDED_ALLOW_IPS"}

    assert environment(name).keys() <= known
    assert environment(name)["LYCEUM_ENVIRONMENT"] == "production"


def test_secrets_reach_only_who_needs_them() -> None:
    workers = {f"worker-{queue}" for queue in QUEUES}

    assert holders("LYCEUM_DATABASE__OWNER_URL") == {"setup"}
    assert holders("POSTGRES_PASSWORD") == {"postgres"}
    assert holders("LYCEUM_STRIPE__SECRET_KEY") == {"api", "stripe", *workers}
    assert holders("LYCEUM_AUTH__SIGNING_KEYS") == {"api", "consume-notifications"}
    assert holders("LYCEUM_CODEC_SERVER__TOKEN") == {"codec-server"}
    assert holders("LYCEUM_S3__SECRET_KEY") == {"setup", "api", *workers}
    assert holders("LYCEUM_TEMPORAL__CODEC_KEYS") == {"setup", "api", "codec-server", "consume-processes", *workers}


def test_servers_without_a_password_are_only_near_who_uses_them() -> None:
    members: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for network in service["networks"]:
            members.setdefault(network, set()).add(name)

    assert members.keys() == COMPOSE["networks"].keys()
    assert {"edge", "telemetry"} == WAYS_OUT
    assert members["telemetry"] == {"relay", "consume-search", "consume-processes"}
    assert members["search"] == {"opensearch", "api", "setup", "consume-search"}
    workers = {f"worker-{queue}" for queue in QUEUES}
    temporal = {"temporal", "temporal-namespace", "temporal-ui"}
    assert members["temporal"] == temporal | workers | {"api", "setup", "consume-processes"}
    assert {name for name, service in SERVICES.items() if "ports" in service} <= members["edge"]


def test_whoever_exports_traces_has_a_way_out() -> None:
    for name in holders("LYCEUM_TELEMETRY__OTLP_ENDPOINT") - JOBS:
        assert WAYS_OUT & {*SERVICES[name]["networks"]}, name


def test_links_follow_a_port_that_is_moved() -> None:
    links = {"LYCEUM_API__PUBLIC_URL": "API:-8000", "LYCEUM_S3__PUBLIC_ENDPOINT_URL": "S3:-18333"}
    for name, port in links.items():
        assert environment("api")[name] == "${" + name + ":-http://127.0.0.1:${LYCEUM_PORTS__" + port + "}}"


def test_the_api_can_be_told_which_proxy_to_believe() -> None:
    assert holders("FORWARDED_ALLOW_IPS") == {"api"}


def test_health_pages_are_asked_where_they_are() -> None:
    for name in OURS - JOBS:
        port = environment(name)["LYCEUM_HEALTH_PORT"]
        assert port == {"api": "8000", "codec-server": "8234"}.get(
            name, environment(name).get("LYCEUM_TELEMETRY__METRICS_PORT")
        )


def test_what_is_mounted_exists_and_cannot_be_written() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, _, target = volume.partition(":")
            if source.startswith("."):
                assert (ROOT / source).is_file()
                assert target.endswith(":ro")
            else:
                assert source in COMPOSE["volumes"]


def test_the_namespace_job_registers_the_search_attributes() -> None:
    script = (ROOT / "deploy/docker/temporal/namespace.sh").read_text()

    registered = dict(re.findall(r"^attribute (\w+) (\w+)$", script, re.MULTILINE))
    assert registered == {
        key.name: "Datetime" if key is attributes.STUCK_SINCE else "Keyword" for key in attributes.ALL
    }


@pytest.mark.parametrize("path", sorted((ROOT / "deploy/docker").rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse(path: Path) -> None:
    subprocess.run(["sh", "-n", path], check=True)
    assert path.read_text().startswith("#!/bin/sh\n")
    assert "\nset -eu\n" in path.read_text()


def test_the_image_holds_every_package_and_nothing_of_the_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}

    copied = dict(re.findall(r"^COPY (\S+) (/app/\S+)$", DOCKERFILE, re.MULTILINE))
    assert copied.pop("deploy/stripe_sandbox") == "/app/deploy/stripe_sandbox"
    assert copied == {name: f"/app/{name}" for name in packages - {"deploy"}}
    assert "COPY deploy/__init__.py deploy/setup.py /app/deploy/" in DOCKERFILE
    assert "--require-hashes" in DOCKERFILE


def test_the_image_has_stages_a_pinned_base_and_a_user_without_rights() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)

    assert [stage for _, stage in stages] == ["build", "base", "stripe-sandbox", "runtime"]
    bases = {image for image, _ in stages} - {"base"}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", bases.pop())
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001", "0:0", "10001:10001"]
    assert "HEALTHCHECK" in DOCKERFILE
    assert SERVICES["stripe"]["build"]["target"] == "stripe-sandbox"
    assert {SERVICES[name]["build"]["target"] for name in OURS} == {"runtime"}
    assert SERVICES["stripe"]["profiles"] == ["sandbox"]
