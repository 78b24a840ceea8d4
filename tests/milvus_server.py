"""A real Milvus server for tests, from the wheel ``milvus``, where one can start."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

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
END_S = 20  # to end by itself
LISTEN_S = 15
START_S = 60  # it takes 9 s on two idle cores; another server on this machine holds its ports


class Server:
    """A Milvus server on a free port of this machine, with its files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, or skip the test and say why the server does not.

        A server that was killed may still be registered, in its own files, for a minute: the next
        one says that it started, but does not listen. Then it is started again.
        """
        for _ in range(4):
            self._start()
            for _ in range(LISTEN_S):
                if self.is_listening():
                    return
                time.sleep(1)
            self.stop()
        pytest.skip(f"the Milvus server of {SERVER_PYTHON} does not listen")

    def is_listening(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def _start(self) -> None:
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

    def end(self) -> None:
        """Ask the server to end, as a service manager does."""
        deadline = time.monotonic() + END_S
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
            while time.monotonic() < deadline:
                self._process.poll()
                os.killpg(self._process.pid, 0)  # raises when all of them have ended
                time.sleep(0.2)
        self.stop()

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


def drop(address: str) -> None:
    """Remove what the test before left on a server."""
    from pymilvus import MilvusClient

    client = MilvusClient(uri=address)
    if client.has_collection("images"):
        client.drop_collection("images")
    client.close()


KINDS = ["lance", "milvus-lite", "milvus-server"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of store."""
    return request.param


@pytest.fixture
def store_name(kind: str, request: pytest.FixtureRequest) -> str:
    """The name of a store of that kind that does not exist yet."""
    if kind == "milvus-lite":
        pytest.importorskip("milvus_lite")
    name = {"lance": "store", "milvus-lite": "store.db"}.get(kind)
    if name is None:
        name = request.getfixturevalue("milvus_server").address
        drop(name)
    return name
