"""RabbitMQ's packages, fetched with a stand-in for apt whose lists name a version that is gone."""

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local import rabbitmq
from deploy.local.stack import Stack
from deploy.local.tools import ToolFailed

_APT = """#!/bin/sh
case "$*" in
  *install*) echo "Inst erlang-base (1)"; echo "Inst rabbitmq-server (1)" ;;
  *Dir::State::lists=*download*)
    test "$APT_DEAD" && echo "503  Unavailable" >&2 && exit 100
    echo new > erlang-base_2.deb; echo new > rabbitmq-server_2.deb ;;
  *download*) echo old > erlang-base_1.deb; echo "404  Not Found" >&2; exit 100 ;;
esac
"""
_DPKG = """#!/bin/sh
cat "$2" >> "$3/unpacked"
"""


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("apt-get", _APT), ("dpkg-deb", _DPKG)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return Stack.open(tmp_path / "home", {**os.environ, "LYCEUM_CACHE": str(tmp_path / "cache"), "APT_DEAD": ""})


async def test_a_version_that_is_gone_is_looked_up_again_once(stack: Stack) -> None:
    notes: list[str] = []
    await rabbitmq.fetch(stack, notes.append)
    complete = list(stack.cache.rglob(".complete"))
    assert len(complete) == 1
    assert (complete[0].parent / "unpacked").read_text() == "new\nnew\n"
    assert notes.count("reading apt's package lists") == 1


async def test_a_download_that_fails_with_fresh_lists_says_what_apt_said(stack: Stack) -> None:
    with pytest.raises(ToolFailed, match=r"apt-get exited with 100: .*503  Unavailable"):
        await rabbitmq.fetch(replace(stack, environ={**stack.environ, "APT_DEAD": "1"}), lambda text: None)
    assert list(stack.cache.rglob(".complete")) == []


async def test_the_password_is_for_its_owner_only(stack: Stack) -> None:
    await rabbitmq.prepare(stack, lambda text: None)
    configuration = stack.data("rabbitmq") / "rabbitmq.conf"
    assert f"default_pass = {stack.secrets['LYCEUM_STACK_RABBITMQ_PASSWORD']}\n" in configuration.read_text()
    assert stat.S_IMODE(configuration.stat().st_mode) == 0o600
