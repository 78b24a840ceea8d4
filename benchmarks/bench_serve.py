"""The search page under load: many clients on loopback, against its parts measured alone.

Writes  serve.csv and serve_memory.csv in --output

    make demo
    python -m benchmarks.bench_serve --dpath=demo --save_path=demo/para/model.ep4

A store of random embeddings is served with the demo's model. Each client sends a photo of the demo
to /api/search, waits for the answer and sends the next. Clients, server and the programs beside
share the cores. What the parts take alone is measured before and after, in this process.
"""

import argparse
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from benchmarks import processes, results
from retrieval.asking.preparation import Preparation
from retrieval.data import image_index, layout, provenance
from retrieval.store.interface import ImageStore
from retrieval.store.opening import open_store
from retrieval.store.rows import Collection, ImageRow
from retrieval.store.thumbnails import thumbnail
from retrieval.web.uploads import prepare_upload

K = 20
PHOTOS = 64
BATCH = 8192
START_S = 120
BOUNDARY = "photo"


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
    connection.request("POST", f"/api/search?k={K}&show_all=1", body, headers)
    response = connection.getresponse()
    content = response.read()
    if response.status == 200:
        assert len(json.loads(content)["answers"]) == K
    return response.status


def body_of(photo: bytes) -> bytes:
    """Return the body of an upload."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photo"; filename="x"\r\n\r\n'
    return head.encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


def load(port: int, bodies: list[bytes], n_client: int, seconds: float) -> list[Loop]:
    """Let clients ask for some seconds."""
    until = time.perf_counter() + seconds
    clients = [Loop(port, bodies, until, 7 * number) for number in range(n_client)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return clients


def median_ms(work: Callable[[int], object], times: int) -> float:
    """Return the median milliseconds of a piece of work, after a warm-up."""
    taken = []
    for turn in range(times + 3):
        started = time.perf_counter()
        work(turn)
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken[3:])


def parts_alone(
    store: ImageStore, save_path: Path, photos: list[bytes], times: int
) -> dict[str, float]:
    """Measure decoding, encoding, search and encoding in batches, one after the other."""
    from retrieval.asking.encoder import QueryEncoder

    record = store.collection.record
    preparation = Preparation.of_record(record, store.name)
    encoder = QueryEncoder.load(save_path, record)
    squares = [prepare_upload(photo, preparation, None).square for photo in photos]
    queries = encoder.embed(np.stack(squares))

    def find(turn: int) -> None:
        answer = store.search(queries[turn % len(queries)][None], K)
        store.get(answer.ids[0].tolist())

    def at(turn: int) -> int:
        return turn % len(photos)

    many = np.stack(squares[:32])
    return {
        "decode_ms": median_ms(lambda t: prepare_upload(photos[at(t)], preparation, None), times),
        "encode_ms": median_ms(lambda t: encoder.embed(squares[at(t)][None]), times),
        "search_ms": median_ms(find, times),
        "encode_images_per_s": 1000 * len(many) / median_ms(lambda t: encoder.embed(many), 5),
    }


def make_store(data_dir: Path, served: Path, n_row: int) -> ImageStore:
    """Make a store of random embeddings that the demo's model can search."""
    record = provenance.load_record(data_dir, layout.DATABASE.name) or {}
    matrix = layout.IMAGE_MATRIX.load(data_dir, record["images"])
    jpegs = [thumbnail(np.array(square)) for square in matrix[:PHOTOS]]
    store = open_store(served, layout.STORE.name, create=Collection(record))
    rng = np.random.default_rng(7)
    for start in range(0, n_row, BATCH):
        n = min(BATCH, n_row - start)
        embeddings = rng.standard_normal((n, store.collection.dim)).astype(np.float32)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        store.add([_row(start + i, embeddings[i], jpegs) for i in range(n)])
    store.optimize()
    return store


def _row(number: int, embedding: np.ndarray, jpegs: list[bytes]) -> ImageRow:
    label = number // 40
    return ImageRow(
        id=number,
        embedding=embedding,
        sha256=f"{number:064x}",
        label=label,
        make=f"make {label % 100}",
        model=f"model {label}",
        year=str(2000 + label % 15),
        viewpoint="front",
        thumbnail=jpegs[number % len(jpegs)],
    )


@contextmanager
def server(served: Path, save_path: Path, port: int) -> Iterator[tuple[psutil.Process, float]]:
    """Run the server; give its process and the seconds from its start to its first answer."""
    command = [sys.executable, "-m", "process_data.serve", f"--dpath={served}", f"--port={port}"]
    started = time.perf_counter()
    process = subprocess.Popen([*command, f"--save_path={save_path}"], cwd=processes.ROOT)
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


def photos_of(data_dir: Path) -> list[bytes]:
    """Return some image files of the database."""
    record = provenance.load_record(data_dir, layout.DATABASE.name) or {}
    prepared = record["preparation"]
    table = image_index.by_index(
        layout.IMAGE_INDEX.load(data_dir, prepared["index"]), prepared["index"]
    )
    chosen = np.linspace(0, len(table) - 1, PHOTOS).astype(int)
    root = data_dir / prepared["image_root_path"]
    return [(root / table["Path"].iloc[row]).read_bytes() for row in chosen]


def row_of(
    clients: list[Loop], seconds: float, alone: dict[str, float], options: argparse.Namespace
) -> dict[str, object]:
    """Return a row of the table."""
    times = sorted(second for client in clients for second in client.seconds)
    total = alone["decode_ms"] + alone["encode_ms"] + alone["search_ms"]
    p50, p95 = (1000 * times[int(share * (len(times) - 1))] for share in (0.5, 0.95))
    return {
        "rows": options.rows,
        "clients": len(clients),
        "requests": len(times),
        "refused": sum(client.n_refused for client in clients),
        "images_per_s": len(times) / seconds,
        "ms_p50": p50,
        "ms_p95": p95,
        **{name: alone[name] for name in ("decode_ms", "encode_ms", "search_ms")},
        "p50_over_sum": p50 / total,
        "share_of_encoding": len(times) / seconds / alone["encode_images_per_s"],
    }


def memory_rows(
    process: psutil.Process, port: int, bodies: list[bytes], options: argparse.Namespace
) -> list[dict[str, object]]:
    """Return the memory of the server in the course of many requests."""
    rows: list[dict[str, object]] = []
    n_request, step = 0, max(1.0, options.memory_seconds / 20)
    until = time.perf_counter() + options.memory_seconds
    while n_request < options.memory_requests and time.perf_counter() < until:
        n_request += sum(len(client.seconds) for client in load(port, bodies, 8, step))
        rows.append({"requests": n_request, "rss_MB": process.memory_info().rss / 1e6})
    return rows[:1] + rows[len(rows) // 2 : len(rows) // 2 + 1] + rows[-1:]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--dpath", type=Path, default=Path("demo"), help="a data directory with a database")
    add("--save_path", type=Path, default=Path("demo/para/model.ep4"), help="its checkpoint")
    add("--rows", type=int, default=100_000, help="rows of the store")
    add("--clients", type=int, nargs="+", default=[1, 8, 32], help="clients at once")
    add("--seconds", type=float, default=20, help="seconds of each load")
    add("--memory_requests", type=int, default=10_000, help="requests to watch the memory for")
    add("--memory_seconds", type=float, default=180, help="seconds to do so, at most")
    add("--port", type=int, default=8765, help="port of the server")
    results.add_arguments(parser)
    return parser


def run(options: argparse.Namespace) -> None:
    """Measure and publish."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the server sets it
    published = results.Run("bench_serve", options, options.output)
    photos = photos_of(options.dpath)
    bodies = [body_of(photo) for photo in photos]
    served = Path(tempfile.mkdtemp(prefix="bench_serve"))
    try:
        with make_store(options.dpath, served, options.rows) as store:
            alone = parts_alone(store, options.save_path, photos, 30)
            with server(served, options.save_path, options.port) as (process, start_s):
                load(options.port, bodies, 2, min(2, options.seconds))  # warm-up
                loads = [load(options.port, bodies, n, options.seconds) for n in options.clients]
                memory = memory_rows(process, options.port, bodies, options)
            again = parts_alone(store, options.save_path, photos, 30)
    finally:
        shutil.rmtree(served)
    mean = {name: (alone[name] + again[name]) / 2 for name in alone}
    rows = [row_of(clients, options.seconds, mean, options) for clients in loads]
    published.publish("serve", rows)
    published.publish("serve_memory", [{"start_s": start_s, **row} for row in memory])


if __name__ == "__main__":
    run(make_parser().parse_args())
