"""Any sequence of changes leaves what a store made anew would hold."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.store.backends import open_store
from retrieval.store.base import ImageStore
from retrieval.store.filters import Filter
from tests.store.drawn_rows import (
    COLLECTION,
    check,
    draw_queries,
    draw_rows,
    expected,
    same,
)

NUMBERS = st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NUMBERS),
        st.tuples(st.just("remove"), NUMBERS),
        st.tuples(st.sampled_from(["optimize", "reopen"]), st.just([])),
    ),
    max_size=8,
)
QUERIES = draw_queries(3)
WHERE = Filter(labels=frozenset({0, 1, 2}))


def after(store: ImageStore, changes: Sequence[tuple[str, list[int]]]) -> set[int]:
    """Make changes; check each one's count; return the ids that must be there."""
    present: set[int] = set()
    for name, numbers in changes:
        if name == "add":
            assert store.add(draw_rows(numbers)) == len(set(numbers) - present)
            present |= set(numbers)
        elif name == "remove":
            assert store.remove(numbers) == len(set(numbers) & present)
            present -= set(numbers)
        elif name == "optimize":
            store.optimize()
        check(store.search(QUERIES, 4), expected(draw_rows(sorted(present)), QUERIES, 4))
    return present


def check_like_new(store: ImageStore, present: set[int]) -> None:
    rows = draw_rows(sorted(present))
    for k, where in ((50, Filter()), (7, WHERE)):
        check(store.search(QUERIES, k, where), expected(rows, QUERIES, k, where))
    assert store.ids().tolist() == sorted(present) and store.count() == len(present)
    assert all(same(a, b) for a, b in zip(store.get(sorted(present)), rows, strict=True))


FOLDERS = iter(range(10**6))
PROPERTY = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@settings(PROPERTY, max_examples=25)
@given(changes=CHANGES)
def test_lance(tmp_path: Path, changes: list[tuple[str, list[int]]]) -> None:
    name = f"store{next(FOLDERS)}"
    with open_store(tmp_path, name, create=COLLECTION) as store:
        present = after(store, changes)
        check_like_new(store, present)
    with open_store(tmp_path, name) as store:  # nothing in memory yet
        check_like_new(store, present)


@settings(PROPERTY, max_examples=6)
@given(changes=CHANGES)
def test_lance_on_disk(tmp_path: Path, changes: list[tuple[str, list[int]]]) -> None:
    """Beyond ``exact_rows``, and without an index, the files are scanned."""
    name = f"store{next(FOLDERS)}"
    changes = [change for change in changes if change[0] != "optimize"]  # that makes the index
    with open_store(tmp_path, name, create=COLLECTION, exact_rows=0) as store:
        check_like_new(store, after(store, changes))


@settings(PROPERTY, max_examples=4)
@given(changes=CHANGES)
def test_milvus_lite(tmp_path: Path, changes: list[tuple[str, list[int]]]) -> None:
    pytest.importorskip("milvus_lite")
    with open_store(tmp_path, f"{next(FOLDERS)}.db", create=COLLECTION) as store:
        check_like_new(store, after(store, changes))


def test_the_tail_is_sorted_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.store.lance.in_memory.LARGEST_TAIL", 3)
    rows = draw_rows(np.random.default_rng(3).permutation(60).tolist())
    with open_store(tmp_path, create=COLLECTION) as store:
        for start in range(0, 60, 4):
            store.add(rows[start : start + 4])
            check(store.search(QUERIES, 9), expected(rows[: start + 4], QUERIES, 9))
