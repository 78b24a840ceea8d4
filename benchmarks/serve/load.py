"""The search page under load: many clients on loopback, against its parts measured alone.

Writes  serve.csv and serve_memory.csv in --output

    make demo
    python -m benchmarks.serve.load --dpath=demo --save_path=demo/para/model.ep4

A store of random embeddings is served with the demo's model. Each client sends a photo of the demo
to /api/search, waits for the answer and sends the next. Clients, server and the programs beside
share the cores. Rounds alternate between the parts alone, in this process, and each load, so that
programs beside slow both down.
"""

import argparse
import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from benchmarks import results
from benchmarks.serve.clients import K, Load, body_of, joined, load, server
from retrieval.data import image_index, layout, provenance
from retrieval.data.jpeg import thumbnail
from retrieval.photo_search.preprocessing import Preprocessing
from retrieval.store.backends import open_store
from retrieval.store.base import ImageStore
from retrieval.store.rows import Collection, ImageRow
from retrieval.threads import computing_with, prepare_command

PHOTOS = 64
BATCH = 8192
ENCODED = 32  # photos of a batch


def median_ms(work: Callable[[int], object], times: int) -> float:
    """Return the median milliseconds of a piece of work, after a warm-up."""
    taken = []
    for turn in range(times + 3):
        started = time.perf_counter()
        work(turn)
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken[3:])


class Parts:
    """Decoding, encoding and searching alone, in this process, as the server does them."""

    def __init__(self, store: ImageStore, save_path: Path, photos: list[bytes]) -> None:
        from retrieval.photo_search.query_encoder import QueryEncoder

        record = store.collection.record
        self.store, self.photos = store, photos
        self.preprocessing = Preprocessing.of_record(record, store.name)
        self.encoder = QueryEncoder.load(save_path, record)
        self.squares = [self.preprocessing.square(io.BytesIO(photo)) for photo in photos]
        self.queries = self.encoder.embed(np.stack(self.squares))

    def decode(self, turn: int) -> None:
        """Prepare a photo."""
        self.preprocessing.square(io.BytesIO(self.photos[turn % len(self.photos)]))

    def encode(self, turn: int) -> None:
        """Encode a photo."""
        self.encoder.embed(self.squares[turn % len(self.squares)][None])

    def search(self, turn: int) -> None:
        """Find the neighbors of a photo and their metadata."""
        answer = self.store.search(self.queries[turn % len(self.queries)][None], K)
        self.store.metadata(answer.ids[0].tolist())

    def measure(self, times: int) -> dict[str, float]:
        """Measure one photo at a time, and encoding in batches."""
        many = np.stack(self.squares[:ENCODED])
        started, n_batch = time.process_time(), 4
        batch_ms = median_ms(lambda _: self.encoder.embed(many), n_batch)
        cpu_s = (time.process_time() - started) / (n_batch + 3)
        return {
            "decode_ms": median_ms(self.decode, times),
            "encode_ms": median_ms(self.encode, times),
            "search_ms": median_ms(self.search, times),
            "encode_images_per_s": 1000 * ENCODED / batch_ms,
            "encode_cpu_ms": 1000 * cpu_s / ENCODED,
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
    load: Load, n_client: int, alone: dict[str, float], options: argparse.Namespace
) -> dict[str, object]:
    """Return a row of the table."""
    n, total = len(load.waits), alone["decode_ms"] + alone["encode_ms"] + alone["search_ms"]
    p50, p95 = (1000 * float(np.percentile(load.waits, share)) for share in (50, 95))
    return {
        "rows": options.rows,
        "clients": n_client,
        "requests": n,
        "refused": load.n_refused,
        "images_per_s": n / load.seconds,
        "ms_p50": p50,
        "ms_p95": p95,
        **{name: alone[name] for name in ("decode_ms", "encode_ms", "search_ms")},
        "p50_over_sum": p50 / total,
        "share_of_encoding": n / load.seconds / alone["encode_images_per_s"],
        "server_cpu_ms": 1000 * load.server_s / n,
        "client_cpu_ms": 1000 * load.client_s / n,
        "encode_cpu_ms": alone["encode_cpu_ms"],
    }


def memory_rows(
    process: psutil.Process, bodies: list[bytes], options: argparse.Namespace
) -> list[dict[str, object]]:
    """Return the memory of the server in the course of many requests."""
    rows: list[dict[str, object]] = []
    n_request, step = 0, max(1.0, options.memory_seconds / 20)
    until = time.perf_counter() + options.memory_seconds
    while n_request < options.memory_requests and time.perf_counter() < until:
        n_request += len(load(process, options.port, bodies, 8, step).waits)
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
    add("--rounds", type=int, default=4, help="parts that the seconds are divided into")
    add("--memory_requests", type=int, default=10_000, help="requests to watch the memory for")
    add("--memory_seconds", type=float, default=180, help="seconds to do so, at most")
    add("--port", type=int, default=8765, help="port of the server")
    results.add_arguments(parser)
    return parser


def run(options: argparse.Namespace) -> None:
    """Measure and publish."""
    published = results.Run("serve", options, options.output)
    photos = photos_of(options.dpath)
    bodies = [body_of(photo) for photo in photos]
    served = Path(tempfile.mkdtemp(prefix="serve"))
    rounds = []
    try:
        with computing_with(None), make_store(options.dpath, served, options.rows) as store:
            parts = Parts(store, options.save_path, photos)
            with server(served, options.save_path, options.port) as (process, start_s):
                load(process, options.port, bodies, 2, min(2, options.seconds))  # warm-up
                for _ in range(options.rounds):
                    seconds = options.seconds / options.rounds
                    loads = [
                        load(process, options.port, bodies, n, seconds) for n in options.clients
                    ]
                    rounds.append((parts.measure(8), loads))
                memory = memory_rows(process, bodies, options)
    finally:
        shutil.rmtree(served)
    alone = {name: statistics.mean(one[name] for one, _ in rounds) for name in rounds[0][0]}
    rows = [
        row_of(joined([loads[place] for _, loads in rounds]), n, alone, options)
        for place, n in enumerate(options.clients)
    ]
    published.publish("serve", rows)
    published.publish("serve_memory", [{"start_s": start_s, **row} for row in memory])


if __name__ == "__main__":
    prepare_command()  # as the server does
    run(make_parser().parse_args())
