"""Clients that send photos to the search page's server, and what they cost it."""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import measured_process

K = 20
START_S = 120
BOUNDARY = "photo"


@dataclass
class Load:
    """Latencies and costs of some clients.

    Attributes:
        waits: Seconds from each request to its answer.
        n_refused: Requests that were told to come again.
        seconds: How long the clients asked.
        server_s: Processor time of the server.
        client_s: Processor time of the clients.
    """

    waits: list[float] = field(default_factory=list)
    n_refused: int = 0
    seconds: float = 0.0
    server_s: float = 0.0
    client_s: float = 0.0


def joined(loads: Sequence[Load]) -> Load:
    """Return several loads as one."""
    return Load(
        [wait for load in loads for wait in load.waits],
        sum(load.n_refused for load in loads),
        sum(load.seconds for load in loads),
        sum(load.server_s for load in loads),
        sum(load.client_s for load in loads),
    )


class Loop(threading.Thread):
    """A client: sends photos one after the other until its time is over."""

    def __init__(self, port: int, bodies: list[bytes], until: float, first: int) -> None:
        super().__init__()
        self.port, self.bodies, self.until, self.first = port, bodies, until, first
        self.seconds: list[float] = []
        self.n_refused = 0

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        turn = self.first
        while time.perf_counter() < self.until:
            started = time.perf_counter()
            status = ask(connection, self.bodies[turn % len(self.bodies)])
            turn += 1
            if status == 200:
                self.seconds.append(time.perf_counter() - started)
            else:
                self.n_refused += 1
        connection.close()


def ask(connection: http.client.HTTPConnection, body: bytes) -> int:
    """Search with a photo, read the answer and return the status."""
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    connection.request("POST", f"/api/search?k={K}", body, headers)
    response = connection.getresponse()
    content = response.read()
    if response.status == 200:
        assert len(json.loads(content)["answers"]) == K
    return response.status


def body_of(photo: bytes) -> bytes:
    """Return the body of an upload."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photo"; filename="x"\r\n\r\n'
    return head.encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


def load(
    process: psutil.Process, port: int, bodies: list[bytes], n_client: int, seconds: float
) -> Load:
    """Send requests from several clients to the server process for some seconds."""
    own, server = time.process_time(), cpu_seconds(process)
    started = time.perf_counter()
    clients = [Loop(port, bodies, started + seconds, 7 * number) for number in range(n_client)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return Load(
        [wait for client in clients for wait in client.seconds],
        sum(client.n_refused for client in clients),
        time.perf_counter() - started,
        cpu_seconds(process) - server,
        time.process_time() - own,
    )


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time of all threads of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def server(served: Path, save_path: Path, port: int) -> Iterator[tuple[psutil.Process, float]]:
    """Run the server; give its process and the seconds from its start to its first answer."""
    command = [sys.executable, "-m", "process_data.serve", f"--dpath={served}", f"--port={port}"]
    started = time.perf_counter()
    process = subprocess.Popen([*command, f"--save_path={save_path}"], cwd=measured_process.ROOT)
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - started > START_S:
                raise SystemExit("the server does not start")
            time.sleep(0.05)
        yield psutil.Process(process.pid), time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/api/search?id=1")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
