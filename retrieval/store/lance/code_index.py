"""The approximate search of a LanceDB store that outgrew the exact one: LOPQ codes of its rows.

The index covers the rows that were there when it was made or renewed. Newer rows are compared one
by one, removed ones and those that a filter leaves out are skipped inside the scan. What the codes
find are candidates; their similarities are computed exactly from the embeddings on disk.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.data import files
from retrieval.data.provenance import sha256_of_array, sha256_of_header
from retrieval.search.exact import recall_of_exact
from retrieval.search.tiles import BestRows
from retrieval.store import rescoring
from retrieval.store.lance.rows import embeddings_of

if TYPE_CHECKING:
    import lance

    from lopq import LOPQSearcher

RECORD = "index.json"  # in the store's folder, written last: what the files are, and the recall
CODES, ROWS = "index.lopq", "index_rows.npy"
ROWS_PER_CELL, MOST_CELLS = 1000, 4096
ROWS_PER_ROTATION = 8192
CODE_DIMS = 8  # dimensions of a byte of a code
QUOTA = 20  # a twentieth of the rows is ranked by codes,
LEAST_RANKED = 2000  # or so many rows that fit a filter
CANDIDATES = 200  # rows that are scored exactly, at least; ten for each neighbor
MEASURED, MEASURED_K = 32, 20  # rows that are searched again to measure the recall
READ_AT_ONCE = 8192  # rows


@dataclass(frozen=True)
class CodeIndex:
    """The codes of one version of a store.

    Attributes:
        searcher: Codes under their positions.
        rows: (n, 2) int64, id and time of adding of each position; some may be removed.
        fitted_on: Rows that were there when the model was fitted.
        recall: Share of exact neighbors found for some rows.
    """

    searcher: "LOPQSearcher"
    rows: np.ndarray
    fitted_on: int
    recall: float

    @cached_property
    def _by_id(self) -> np.ndarray:
        """(n,) int64 positions in the order of their ids, of one id the newest last."""
        return np.argsort(self.rows[:, 0], kind="stable")

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Return the (m,) position of rows (m, 2) of id and time; -1 where there is none."""
        if len(self.rows) == 0:
            return np.full(len(rows), -1)
        ids = self.rows[:, 0]
        last = np.searchsorted(ids, rows[:, 0], side="right", sorter=self._by_id) - 1
        found = self._by_id[np.maximum(last, 0)]
        return np.where((self.rows[found] == rows).all(axis=1), found, -1)

    def count(self, k: int) -> int:
        """Return how many candidates of each query are scored exactly."""
        return max(CANDIDATES, 10 * k)

    def find(self, queries: np.ndarray, k: int, allowed: np.ndarray) -> list[np.ndarray]:
        """Return the positions of each query's candidates.

        Args:
            queries: (n, dim) float32.
            k: Neighbors that are wanted.
            allowed: (n_position,) bool.
        """
        n_row = int(allowed.sum())
        count = min(n_row, self.count(k))
        if count == 0:
            return [np.empty(0, np.int64) for _ in queries]
        quota = min(n_row, max(LEAST_RANKED, 5 * count, n_row // QUOTA))
        _, found = self.searcher.search(queries, count, quota=quota, allowed=allowed)
        return [of_query[of_query >= 0] for of_query in found]


def open_index(folder: Path) -> CodeIndex | None:
    """Return the index; None if there is none, or its files are not those of its record."""
    from lopq import LOPQError, LOPQSearcher

    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        rows = np.load(folder / ROWS, allow_pickle=False)
        if record["files"] != _identity(folder, rows):
            return None
        searcher = LOPQSearcher.load(folder / CODES, verify=False)
        return CodeIndex(searcher, rows, int(record["fitted_on"]), float(record["recall"]))
    except (OSError, ValueError, KeyError, TypeError, LOPQError):
        return None


def make_or_renew(dataset: "lance.LanceDataset", folder: Path) -> None:
    """Make the index, or bring it up to the newest rows; measure its recall and keep that."""
    keys, old = keys_of(dataset), open_index(folder)
    if old is None or len(keys) > 2 * old.fitted_on or len(old.rows) > 2 * len(keys):
        index = _fitted(dataset, keys)
    else:
        index = _renewed(old, dataset, keys)
    recall = measured(index, dataset, keys)
    (folder / RECORD).unlink(missing_ok=True)  # a kill from here on leaves no index
    with files.whole(folder / CODES) as part:
        index.searcher.save(part)
    files.write_array(folder / ROWS, index.rows)
    record = {
        "rows": len(keys),
        "fitted_on": index.fitted_on,
        "recall": recall,
        "files": _identity(folder, index.rows),
    }
    files.write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")


def keys_of(dataset: "lance.LanceDataset", where: str | None = None) -> np.ndarray:
    """Return id and time of adding of all rows that fit, (n, 2) int64, in the order on disk."""
    table = dataset.to_table(columns=["id", "added_ns"], filter=where)
    return np.stack([table["id"].to_numpy(), table["added_ns"].to_numpy()], axis=1)


def embeddings_at(dataset: "lance.LanceDataset", places: np.ndarray) -> np.ndarray:
    """Return the embeddings at places on disk, (n, dim) float32."""
    if len(places) == 0:
        return np.empty((0, dataset.schema.field("embedding").type.list_size), np.float32)
    return embeddings_of(dataset.take(places.tolist(), columns=["embedding"]))


def _fitted(dataset: "lance.LanceDataset", keys: np.ndarray) -> CodeIndex:
    """Fit a model to some rows and encode all."""
    from lopq import LOPQModel, LOPQSearcher
    from lopq.train.fit import training_rows

    n_row, dim = len(keys), dataset.schema.field("embedding").type.list_size
    cells = min(MOST_CELLS, max(1, n_row // ROWS_PER_CELL))
    n_bytes = max(1, dim // CODE_DIMS)
    model = LOPQModel(cells, n_bytes, rotations=max(1, min(cells, n_row // ROWS_PER_ROTATION)))
    sample = training_rows(n_row, cells, model.seed)
    places = np.arange(n_row) if sample is None else sample
    model.fit(embeddings_at(dataset, places), train_size=None)
    searcher = LOPQSearcher(model)
    _add_encoded(searcher, _blocks(dataset), 0)
    return CodeIndex(searcher, keys, n_row, 0.0)


def _renewed(old: CodeIndex, dataset: "lance.LanceDataset", keys: np.ndarray) -> CodeIndex:
    """Add codes of newer rows and drop those of removed ones."""
    positions = old.positions(keys)
    stale = np.setdiff1d(old.searcher.ids, positions[positions >= 0])
    old.searcher.remove(stale)
    new = np.flatnonzero(positions < 0)
    rows = np.concatenate([old.rows, keys[new]])
    starts = range(0, len(new), READ_AT_ONCE)
    blocks = (embeddings_at(dataset, new[start : start + READ_AT_ONCE]) for start in starts)
    _add_encoded(old.searcher, blocks, len(old.rows))
    old.searcher.optimize()
    return CodeIndex(old.searcher, rows, old.fitted_on, 0.0)


def _add_encoded(searcher: "LOPQSearcher", blocks: Iterable[np.ndarray], first: int) -> None:
    """Encode blocks of embeddings, and add all codes at once: each addition sorts."""
    from lopq import LOPQCode

    encoded = [searcher.model.encode(block) for block in blocks]
    if encoded:
        codes = LOPQCode(*(np.concatenate(part) for part in zip(*encoded, strict=True)))
        searcher.add_codes(codes, np.arange(first, first + len(codes.coarse)))


def _blocks(dataset: "lance.LanceDataset") -> Iterator[np.ndarray]:
    """Yield the embeddings of all rows, in the order on disk."""
    import pyarrow as pa

    scanner = dataset.scanner(columns=["embedding"], batch_size=READ_AT_ONCE, scan_in_order=True)
    for batch in scanner.to_batches():
        yield embeddings_of(pa.Table.from_batches([batch]))


def measured(index: CodeIndex, dataset: "lance.LanceDataset", keys: np.ndarray) -> float:
    """Return the share of exact neighbors that are candidates, for some of the rows."""
    places = np.unique(np.linspace(0, len(keys) - 1, MEASURED).astype(int))
    queries, k = embeddings_at(dataset, places), min(MEASURED_K, len(keys))
    best, first = BestRows(len(queries), k), 0
    for block in _blocks(dataset):
        best.add(0, queries @ block.T, np.arange(first, first + len(block)))
        first += len(block)
    exact, _ = best.ranked()
    found = index.find(queries, k, np.ones(len(index.rows), bool))
    return round(recall_of_exact(index.positions(keys)[exact], found), 4)


def _identity(folder: Path, rows: np.ndarray) -> list[str]:
    """Return an identity of the files of an index."""
    return [sha256_of_header(folder / CODES), sha256_of_array(rows)]


@dataclass(frozen=True)
class Covered:
    """The rows that match a filter and are in the index, in one version of the store.

    Attributes:
        allowed: (n_position,) bool, the positions that fit.
        newer: Rows that fit and came later, to be compared one by one.
    """

    allowed: np.ndarray
    newer: rescoring.Candidates

    @classmethod
    def of(cls, index: CodeIndex, dataset: "lance.LanceDataset", where: str | None) -> "Covered":
        """Look up which matching rows are in the index."""
        dim = dataset.schema.field("embedding").type.list_size
        keys = keys_of(dataset, where)
        positions = index.positions(keys)
        allowed = np.zeros(len(index.rows), bool)
        allowed[positions[positions >= 0]] = True
        new, vectors = keys[positions < 0, 0], np.empty((0, dim), np.float32)
        if len(new):
            condition = f"added_ns >= {int(keys[positions < 0, 1].min())}"
            table = dataset.to_table(columns=["id", "embedding"], filter=condition)
            kept = np.isin(table["id"].to_numpy(), new)
            new, vectors = table["id"].to_numpy()[kept], embeddings_of(table)[kept]
        return cls(allowed, rescoring.Candidates(new, vectors))
