"""Clients that send half a request or do not read: given up, while others are answered."""

import http.client
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from retrieval.web import connections
from retrieval.web.app import create_app
from retrieval.web.connections import ClientTimeouts
from retrieval.web.image_database import ImageDatabase
from retrieval.web.middleware import protection
from retrieval.web.server import LogLimit
from tests.web.conftest import running

Connect = Callable[..., socket.socket]

SHORT = ClientTimeouts(request=0.6, body=0.6, reading=0.6)
HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
FORM = (
    b"Host: localhost\r\nContent-Length: 90000\r\nContent-Type: multipart/form-data; boundary=b\r\n"
)


@pytest.fixture(scope="module")
def port(database: ImageDatabase) -> Iterator[int]:
    with running(create_app(database), SHORT) as port:
        yield port


@pytest.fixture
def connect() -> Iterator[Connect]:
    """A function that opens a connection and sends some bytes."""
    opened: list[socket.socket] = []

    def connect(port: int, first: bytes = b"") -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        opened[-1].sendall(first)
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def get(port: int, address: str = "/healthz") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", address)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def given_up(port: int, wait: str) -> float:
    found = re.findall(rf'given_up_total{{wait="{wait}"}} (\S+)', get(port, "/metrics"))
    return float(found[0]) if found else 0


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed a connection, after reading what it sent."""
    connection.setblocking(False)
    try:
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def wait_until(is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("sent", [b"", HEAD, b"POST /api/search HTTP/1.1\r\n" + FORM + b"\r\n--b"])
def test_a_request_that_never_ends_is_given_up(port: int, connect: Connect, sent: bytes) -> None:
    """However slowly it goes on."""
    wait = "body" if sent.startswith(b"POST") else "request"
    before = given_up(port, wait)
    slow, rest = connect(port, sent), iter(b"X-Slow: " + b"x" * 1000 if sent else b"")

    def is_over() -> bool:
        for byte in rest:
            try:
                slow.sendall(bytes([byte]))
            except ConnectionError:
                return True
            break
        assert "images" in get(port)
        return is_closed(slow)

    wait_until(is_over)
    assert given_up(port, wait) == before + 1


def test_a_body_that_nobody_reads_is_given_up(port: int, connect: Connect) -> None:
    slow = connect(port, b"POST /healthz HTTP/1.1\r\n" + FORM + b"\r\n--b")
    assert slow.recv(1000).startswith(b"HTTP/1.1 405 ")
    wait_until(lambda: is_closed(slow))


def test_answers_that_are_not_read_are_given_up(port: int) -> None:
    before = given_up(port, "reading")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.settimeout(20)
        deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 600)
        wait_until(lambda: given_up(port, "reading") == before + 1)


def test_a_client_that_goes_on_asking_keeps_its_connection(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.connect()
    first = connection.sock
    for _ in range(5):
        connection.request("GET", "/healthz")
        assert b"images" in connection.getresponse().read()
        time.sleep(0.2)  # longer in all than one request may take
    assert connection.sock is first
    connection.close()


def test_beyond_the_limit_the_longest_wait_ends(
    database: ImageDatabase,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 20)
    with running(create_app(database)) as port, caplog.at_level(logging.INFO):
        upload = connect(port, b"POST /api/search HTTP/1.1\r\n" + FORM + b"\r\n--b")
        assert "images" in get(port)  # by now it has read the head of the upload
        halves = []
        for _ in range(5):
            halves += [connect(port, HEAD) for _ in range(20)]
            assert "images" in get(port)  # at once, though all wait
        wait_until(lambda: sum(not is_closed(half) for half in halves) <= 20)
        still = [not is_closed(half) for half in halves]
        assert sum(still) >= 17 and all(still[-17:])  # the last ones
        assert not is_closed(upload)
        assert given_up(port, "room") >= 80 and given_up(port, "request") == 0
        assert len(caplog.records) < 150
        upload.close()  # the end of the server would wait for it


def test_slow_clients_are_told_while_others_are_served(
    database: ImageDatabase, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protection.BodyLimit.__init__, "__defaults__", (20_000_000, 0.5))
    with running(create_app(database), replace(SHORT, body=20)) as port:
        upload = b"POST /api/search HTTP/1.1\r\n" + FORM + b"\r\n--b"
        slow = [connect(port, upload) for _ in range(8)]
        assert "answers" in get(port, "/api/search?id=1")
        for connection in slow:
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_log_passes_a_message_only_so_often(caplog: pytest.LogCaptureFixture) -> None:
    log, limit = logging.getLogger("of clients"), LogLimit(max_count=3, seconds=0.2)
    caplog.handler.addFilter(limit)
    try:
        for number in range(50):
            log.warning("client %d is odd", number)
        log.warning("something else")
        time.sleep(0.3)
        log.warning("client %d is odd", 50)
    finally:
        caplog.handler.removeFilter(limit)
    said = [record.getMessage() for record in caplog.records]
    assert said[:2] == ["client 0 is odd", "client 1 is odd"]
    assert said[2].startswith("client 2 is odd (more of these")
    assert said[3:] == ["something else", "client 50 is odd"]
