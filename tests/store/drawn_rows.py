"""Random rows, the same for one seed, and the slow search that every store is compared with."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from retrieval.search.exact import nearest_neighbors
from retrieval.store.base import RankedRows
from retrieval.store.filters import Filter
from retrieval.store.rows import Collection, ImageRow

DIM = 16
RECORD = {"dim": DIM, "checkpoint_sha256": "c" * 64, "preparation": {"image_resolution": 32}}
COLLECTION = Collection(RECORD)
NAMES = ["Audi", "d'Or", 'say "A"', "back\\slash", "Škoda", "a; DROP TABLE images --", ""]


def draw_row(number: int, dim: int = DIM) -> ImageRow:
    """Return row ``number``; some rows have the same embedding, so that ties occur."""
    rng = np.random.default_rng(number // 3 if number % 4 == 0 else number + 10_000)
    values = rng.integers(-3, 4, dim).astype(np.float64)
    values[0] += values.any() == 0
    name = NAMES[number % len(NAMES)]
    return ImageRow(
        id=number,
        embedding=(values / np.linalg.norm(values)).astype(np.float32),
        sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        label=number % 5 - 1,
        make=name,
        model=f"{name} {number % 5}".strip(),
        year=str(2000 + number % 3) if number % 7 else "",
        viewpoint=("", "front", "rear side")[number % 3],
        box=(1.0, 2.5, 30.0, 40.0) if number % 2 else None,
        path=f"{name}/{number} ü.jpg",
        thumbnail=bytes(range(256)) * (number % 3),
    )


def draw_rows(numbers: Iterable[int], dim: int = DIM) -> list[ImageRow]:
    return [draw_row(number, dim) for number in numbers]


def draw_queries(n: int, seed: int = 1, dim: int = DIM) -> np.ndarray:
    values = np.random.default_rng(seed).integers(-3, 4, (n, dim)) + 0.5
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def fits(row: ImageRow, where: Filter) -> bool:
    """Return whether a row fits a filter, in plain Python."""
    return all(getattr(row, column) in values for column, values in where.conditions().items())


def expected(
    rows: Sequence[ImageRow], queries: np.ndarray, k: int, where: Filter | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a search must find: `nearest_neighbors` on the rows that fit."""
    kept = sorted((r for r in rows if fits(r, where or Filter())), key=lambda row: row.id)
    gallery = np.array([row.embedding for row in kept], np.float32).reshape(-1, queries.shape[1])
    places, similarities = nearest_neighbors(queries, gallery, k)
    ids = np.array([*(row.id for row in kept), -1])
    return ids[places], similarities


def check(answer: RankedRows, wanted: tuple[np.ndarray, np.ndarray]) -> None:
    """Check that an answer is exact: equal ids, and similarities but for a float32's rounding."""
    assert answer.is_exact and answer.recall is None
    np.testing.assert_array_equal(answer.ids, wanted[0])
    np.testing.assert_allclose(answer.similarities, wanted[1], rtol=0, atol=3e-7)
    assert answer.ids.dtype == np.int64 and answer.similarities.dtype == np.float32


def same(a: ImageRow, b: ImageRow) -> bool:
    """Return whether two rows are equal but for the time when they were added."""
    names = [name for name in ImageRow.__slots__ if name not in ("embedding", "added_ns")]
    equal = [getattr(a, name) == getattr(b, name) for name in names]
    return all(equal) and np.array_equal(a.embedding, b.embedding)
