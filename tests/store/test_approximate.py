"""Beyond ``exact_rows`` an index answers, and says so; what must be exact still is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.store.backends import open_store
from retrieval.store.base import ImageStore
from retrieval.store.filters import Filter
from retrieval.store.lance import code_index
from tests.store.conftest import Opener
from tests.store.drawn_rows import (
    COLLECTION,
    check,
    draw_queries,
    draw_row,
    draw_rows,
    expected,
)

ROWS = 1200
RARE = Filter(makes=frozenset({"Audi"}), labels=frozenset({1}), viewpoints=frozenset({"front"}))


@pytest.fixture
def indexed(opener: Opener, kind: str) -> ImageStore:
    if kind == "milvus-lite":
        pytest.skip("Milvus Lite is always searched exactly")
    store = opener(exact_rows=1000)
    store.add(draw_rows(range(ROWS)))
    store.optimize()
    return store


def recall(store: ImageStore) -> float:
    rows, queries = draw_rows(store.ids().tolist()), draw_queries(8, seed=5)
    ids, _ = expected(rows, queries, 10)
    answer = store.search(queries, 10)
    found = [np.isin(a, b).mean() for a, b in zip(ids, answer.ids, strict=True)]
    assert (np.diff(answer.similarities, axis=1) <= 0).all()
    # Similarities are exact, whatever found the rows.
    sources = np.array([draw_row(n).embedding for n in answer.ids[0].tolist()])
    np.testing.assert_allclose(answer.similarities[0], sources @ queries[0], atol=3e-7)
    return float(np.mean(found))


def test_an_index_answers_and_says_how_good_it_is(indexed: ImageStore) -> None:
    answer = indexed.search(draw_queries(1), 5)
    assert not answer.is_exact and answer.recall is not None and 0.9 <= answer.recall <= 1
    assert recall(indexed) > 0.9


def test_milvus_lite_stays_exact(tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite")
    rows, queries = draw_rows(range(40)), draw_queries(2)
    with open_store(tmp_path, "store.db", create=COLLECTION, exact_rows=10) as store:
        store.add(rows)
        store.optimize()
        check(store.search(queries, 5), expected(rows, queries, 5))


def test_newer_rows_are_found_and_removed_ones_are_not(indexed: ImageStore) -> None:
    new = draw_rows(range(5000, 5040))
    indexed.add(new)
    for row in new[:5]:
        answer = indexed.search(row.embedding[None], 1)
        assert answer.similarities[0, 0] == pytest.approx(1, abs=1e-6) and not answer.is_exact
    best = indexed.search(new[1].embedding[None], 3).ids[0].tolist()
    indexed.remove(best)
    assert not set(best) & set(indexed.search(new[1].embedding[None], 20).ids[0].tolist())
    indexed.optimize()
    assert recall(indexed) > 0.9


def test_a_filter_that_only_newer_rows_fit(indexed: ImageStore) -> None:
    new = [replace(row, make="Lada") for row in draw_rows(range(5000, 5007))]
    indexed.add(new)
    queries, where = draw_queries(2), Filter(makes=frozenset({"Lada"}))
    wanted, _ = expected(new, queries, 5, where)
    np.testing.assert_array_equal(indexed.search(queries, 5, where).ids, wanted)
    assert (indexed.search(queries, 5, Filter(makes=frozenset({"none"}))).ids == -1).all()


def test_a_filter_shortens_no_answer(indexed: ImageStore) -> None:
    queries = draw_queries(3)
    rows = draw_rows(range(ROWS))
    n = indexed.count(RARE)
    assert 5 < n < 30
    for k in (3, n, n + 4):
        wanted, _ = expected(rows, queries, k, RARE)
        np.testing.assert_array_equal(indexed.search(queries, k, RARE).ids, wanted)


def test_few_rows_are_all_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, queries = draw_rows(range(ROWS)), draw_queries(2)
    with open_store(tmp_path, create=COLLECTION, exact_rows=1000) as store:
        store.add(rows)
        check(store.search(queries, 5), expected(rows, queries, 5))  # no index yet
        store.optimize()
        record = json.loads((tmp_path / "store" / code_index.RECORD).read_text())
        assert record["rows"] == ROWS and record["recall"] > 0.9
        n = store.count(RARE)
        for k in (5, n, n + 3):
            check(store.search(queries, k, RARE), expected(rows, queries, k, RARE))
        monkeypatch.setattr(code_index, "CANDIDATES", 1)
        assert not store.search(queries, 1, RARE).is_exact
    with open_store(tmp_path, exact_rows=1000) as store:
        assert store.search(draw_queries(1), 5).recall == record["recall"]


@pytest.mark.parametrize("name", [code_index.CODES, code_index.ROWS, code_index.RECORD])
def test_files_of_another_index_are_not_used(tmp_path: Path, name: str) -> None:
    rows, queries, folder = draw_rows(range(ROWS)), draw_queries(2), tmp_path / "store"
    with open_store(tmp_path, create=COLLECTION, exact_rows=1000) as store:
        store.add(rows)
        store.optimize()
        before = (folder / name).read_bytes()
        store.add(draw_rows(range(5000, 5050)))
        store.optimize()
        (folder / name).write_bytes(before)
    rows += draw_rows(range(5000, 5050))
    with open_store(tmp_path, exact_rows=1000) as store:
        check(store.search(queries, 5), expected(rows, queries, 5))  # all are compared
        store.optimize()
        assert not store.search(queries, 5).is_exact


def test_rows_come_and_go_between_renewals(tmp_path: Path) -> None:
    """Codes are added for new rows and dropped for removed ones; the model stays."""
    with open_store(tmp_path, create=COLLECTION, exact_rows=1000) as store:
        store.add(draw_rows(range(ROWS)))
        store.optimize()
        for step in range(3):
            store.remove(range(100 * step, 100 * step + 60))
            store.add(draw_rows(range(6000 + 80 * step, 6080 + 80 * step)))
            store.add(draw_rows(range(100 * step, 100 * step + 20)))  # come back
            assert recall(store) > 0.9
            store.optimize()
            assert recall(store) > 0.9
        index = code_index.open_index(tmp_path / "store")
        assert index is not None and index.fitted_on == ROWS
        assert len(index.searcher) == store.count()
