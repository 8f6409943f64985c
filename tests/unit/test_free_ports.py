"""The ports tests give to processes they start."""

import socket

from deploy.local.ports import is_free
from tests.support.ports import free_port


def test_no_port_is_given_twice_even_while_nobody_listens() -> None:
    given = [free_port() for _ in range(50)]
    assert len(set(given)) == 50
    assert all(10_000 <= port < 20_000 and is_free(port) for port in given)


def test_a_port_that_is_taken_is_skipped() -> None:
    near = free_port() + 1
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", near))
        taken.listen()
        assert free_port() != near
