"""Stores to test, each empty: LanceDB, Milvus Lite, and a Milvus server where one can start."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from retrieval.data.formats import InputError
from retrieval.store.interface import EXACT_ROWS, ImageStore
from retrieval.store.opening import open_store
from tests.store.drawn_rows import COLLECTION

# A Python with the wheel `milvus`, which holds a server: docs/serving.md says how to make one.
SERVER_PYTHON = os.environ.get("MILVUS_SERVER_PYTHON", "")
SERVER = """
import sys, time
from milvus import MilvusServer
server = MilvusServer()
server.set_base_dir(sys.argv[1])
server.listen_port = int(sys.argv[2])
server.start()
print("started", flush=True)
time.sleep(1e6)
"""
START_S = 60  # it takes 9 s on two idle cores; another server on this machine holds its ports
KINDS = ["lance", "milvus-lite", "milvus-server"]

Opener = Callable[..., ImageStore]


class Server:
    """A Milvus server on a free port of this machine, with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, or skip the test and say why the server does not."""
        command = [SERVER_PYTHON, "-c", SERVER, str(self.folder), str(self.port)]
        self._log = self.folder.with_suffix(".log").open("w+b")
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )
        deadline = time.monotonic() + START_S
        while b"started\n" not in (said := self.folder.with_suffix(".log").read_bytes()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.stop()
                pytest.skip(f"the Milvus server of {SERVER_PYTHON} does not start: {said[-200:]!r}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Kill the server and what it started, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not SERVER_PYTHON:
        pytest.skip("MILVUS_SERVER_PYTHON names no Python with the wheel milvus (docs/serving.md)")
    server = Server(tmp_path_factory.mktemp("milvus"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def opener(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., ImageStore]]:
    """A function that opens the store of a test; the first call creates it."""
    opened: list[ImageStore] = []
    name = {"lance": "store", "milvus-lite": "store.db"}.get(kind)
    if name is None:
        name = request.getfixturevalue("milvus_server").address
        drop(name)

    def open_it(create: bool = True, exact_rows: int = EXACT_ROWS) -> ImageStore:
        collection = COLLECTION if create else None
        opened.append(open_store(tmp_path, name, collection, exact_rows))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> ImageStore:
    return opener()


def drop(address: str) -> None:
    """Remove what the test before left on a server."""
    from pymilvus import MilvusClient

    client = MilvusClient(uri=address)
    if client.has_collection("images"):
        client.drop_collection("images")
    client.close()


def one_line(error: pytest.ExceptionInfo[InputError], *words: str) -> None:
    """Check that an error is one line that has some words."""
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text
