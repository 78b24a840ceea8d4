"""Kill a program that changes a store at a random moment, and look at every row afterwards.

    python -m tests.store.kills --store=store --kills=20
    python -m tests.store.kills --store=store.db --kills=10

A child process changes the store and says what it begins (b) and what has returned (a); SIGKILL
ends it. Then every acknowledged row is compared with its source, a change in flight must be there
whole or not at all, and the next child goes on with the same store.
"""

import argparse
import itertools
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from process_data import publish
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.store.backends import open_store
from retrieval.store.base import ImageStore
from retrieval.store.rows import Collection
from tests.store.drawn_database import write_database
from tests.store.drawn_rows import RECORD, draw_rows, same

ROOT = Path(__file__).resolve().parents[2]
DIM = 128
COLLECTION = Collection({**RECORD, "dim": DIM})
BATCH = 50
PUBLISHED = 8  # images that publish puts into one transaction
OPERATIONS = ("add", "remove", "optimize", "renew")
LONGEST_S = 1.0  # from the first change to the kill


def change(store: ImageStore, name: str, numbers: Sequence[int]) -> None:
    """Make a change, and say so before and after."""
    print("b", name, *numbers, flush=True)
    if name == "add":
        store.add(draw_rows(numbers, DIM))
    elif name == "remove":
        store.remove(numbers)
    elif name == "renew":
        halves = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
        store.renew(store.collection, (draw_rows(half, DIM) for half in halves))
    else:
        store.optimize()
    print("a", name, *numbers, flush=True)


def child(folder: Path, name: str, operation: str, first: int) -> None:
    """Change a store until killed: new rows have the numbers from ``first``."""
    with open_store(folder, name, create=COLLECTION) as store:
        old = store.ids().tolist()
        print("ready", flush=True)
        for turn in itertools.count():
            new = range(first + turn * BATCH, first + (turn + 1) * BATCH)
            if operation == "remove" and len(old) > 10 * BATCH:
                some, old = old[:BATCH], old[BATCH:]
                change(store, "remove", some)
                continue
            if operation == "renew":
                change(store, "renew", new)
                continue
            change(store, "add", new)
            if operation == "remove":
                old += new
            elif operation == "optimize":
                change(store, "remove", new[:5])
                change(store, "optimize", ())


class Watch:
    """What a store must hold."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.present: set[int] = set()
        self.first = 0  # number that was not used yet
        self.compared = self.in_flight = 0

    def fill(self) -> None:
        """Add the first rows, so that there is something to lose."""
        self.first = 20 * BATCH
        with open_store(self.folder, self.name, create=COLLECTION) as store:
            store.add(draw_rows(range(self.first), DIM))
        self.present = set(range(self.first))

    def kill(self, operation: str, seconds: float) -> None:
        """Start a child, kill it that long after its first change began, and check the store."""
        command = [sys.executable, "-m", "tests.store.kills", "child"]
        command += [str(self.folder), self.name, operation, str(self.first)]
        self.check([line.split() for line in killed(command, seconds)])

    def check(self, said: list[list[str]]) -> None:
        """Compare the store with what the child said, and every row with its source."""
        in_flight: tuple[str, set[int]] = "", set()
        for kind, name, *numbers in said:
            ids = set(map(int, numbers))
            self.first = max([self.first, *(n + 1 for n in ids)])
            if kind == "b":
                in_flight = name, ids
                continue
            in_flight = "", set()
            self._apply(name, ids)
        with open_store(self.folder, self.name) as store:
            found = set(store.ids().tolist())
            name, ids = in_flight
            done = found & ids if name == "add" else ids - found
            if name == "renew" and found == ids:
                self._apply(name, ids)
            elif name in ("add", "remove") and done:
                assert done == ids, f"half of a change: {len(done)} of {len(ids)} rows"
                self._apply(name, ids)
            self.in_flight += bool(name)
            lost, more = self.present - found, found - self.present
            assert not lost and not more, f"{len(lost)} rows lost, {len(more)} too many"
            rows = store.get(sorted(found))
            assert len(rows) == len(found) == store.count()
            sources = draw_rows((row.id for row in rows), DIM)
            damaged = [a.id for a, b in zip(rows, sources, strict=True) if not same(a, b)]
            assert not damaged, f"damaged rows: {damaged}"
            self.compared += len(rows)

    def _apply(self, name: str, ids: set[int]) -> None:
        if name == "add":
            self.present |= ids
        elif name == "remove":
            self.present -= ids
        elif name == "renew":
            self.present = ids


def killed(command: list[str], seconds: float) -> list[str]:
    """Run a command, kill it some seconds after it said "ready"; return the lines that followed."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:  # imports may take seconds on a busy machine
            if line == "ready\n":
                break
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().splitlines(keepends=True)
        assert process.wait() in (-signal.SIGKILL, 0)
    return [line for line in lines if line.endswith("\n")]


def publisher(folder: Path, name: str) -> None:
    """Publish a database in many small transactions."""
    publish.BATCH = PUBLISHED
    print("ready", flush=True)
    publish.run(folder, store=name)


def kill_publish(folder: Path, name: str, kills: int, rng: random.Random) -> tuple[int, int, int]:
    """Kill `publish` some times; compare what is there, and all of it after a last run."""
    n = 64 * PUBLISHED
    write_database(folder, n)
    began = compared = n_before = partial = 0
    for turn in range(kills):
        store_name = f"{began}-{name}"
        command = [sys.executable, "-m", "tests.store.kills", "publisher", str(folder), store_name]
        # Milvus Lite takes two seconds to open a file.
        killed(command, rng.uniform(0, 4 * LONGEST_S if name.endswith(".db") else LONGEST_S))
        n_before = check_published(folder, store_name, n_before)
        compared, partial = compared + n_before, partial + (0 < n_before < n)
        if n_before == n or turn == kills - 1:
            publish.run(folder, store=store_name)
            compared += check_published(folder, store_name, n)
            began, n_before = began + 1, 0
    return kills, partial, compared


def check_published(folder: Path, name: str, at_least: int) -> int:
    """Compare the published rows with their sources; return how many there are."""
    try:
        store = open_store(folder, name)
    except InputError:  # killed before it was made
        assert at_least == 0
        return 0
    source = publish.load_source(folder, layout.DATABASE.name, None)
    with store:
        rows = store.get(store.ids())
    assert len(rows) >= at_least and len(rows) % PUBLISHED == 0
    assert all(same(row, source.row(row.id)) for row in rows)
    return len(rows)


def run(folder: Path, name: str, kills: int, seed: int = 7) -> dict[str, tuple[int, int, int]]:
    """Kill each operation some times; return kills, kills within a change, and rows compared."""
    rng = random.Random(seed)
    counts = {"publish": kill_publish(folder / "publish", name, kills, rng)}
    print("publish", *counts["publish"], flush=True)
    for operation in OPERATIONS:
        watch = Watch(folder / operation, name)
        watch.folder.mkdir(parents=True)
        watch.fill()
        for _ in range(kills):
            watch.kill(operation, rng.uniform(0, LONGEST_S))
        counts[operation] = kills, watch.in_flight, watch.compared
        print(operation, *counts[operation], flush=True)
    return counts


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        folder, name, operation, first = sys.argv[2:]
        child(Path(folder), name, operation, int(first))
    if sys.argv[1:2] == ["publisher"]:
        publisher(Path(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="store", help="a folder, or a file *.db")
    parser.add_argument("--kills", type=int, default=20, help="kills of each operation")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), args.store, args.kills)


if __name__ == "__main__":
    main()
