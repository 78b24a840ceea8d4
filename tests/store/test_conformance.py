"""What every store does, on each of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.data.formats import InputError
from retrieval.store.backends import open_store
from retrieval.store.base import ImageStore
from retrieval.store.filters import Filter
from retrieval.store.rows import Collection, ImageRow
from tests.store.conftest import Opener, one_line
from tests.store.drawn_rows import (
    COLLECTION,
    DIM,
    NAMES,
    RECORD,
    check,
    draw_queries,
    draw_row,
    draw_rows,
    expected,
    fits,
    same,
)

FILTERS = [
    Filter(labels=frozenset({1, 3})),
    Filter(makes=frozenset({"d'Or", 'say "A"', "back\\slash"})),
    Filter(makes=frozenset(NAMES[4:]), viewpoints=frozenset({"", "rear side"})),
    Filter(years=frozenset({"2001", ""}), models=frozenset({"Audi 0", "Škoda 2", "Škoda 1"})),
    Filter(models=frozenset({"nobody's"})),
    Filter(sha256s=frozenset({draw_row(4).sha256, draw_row(9).sha256, "0" * 64})),
]


def test_an_empty_store_finds_nothing(store: ImageStore) -> None:
    assert store.count() == 0 and store.ids().tolist() == []
    answer = store.search(draw_queries(2), 3)
    assert answer.ids.tolist() == [[-1] * 3] * 2
    assert np.isneginf(answer.similarities).all()
    assert store.get([1]) == [] and store.remove([1]) == 0 and not store.facets()
    store.optimize()


def test_rows_come_back_as_they_were(store: ImageStore) -> None:
    rows = draw_rows(range(40))
    assert store.add(rows) == 40
    found = store.get([7, 3, 99, 39, 3])
    assert [row.id for row in found] == [7, 3, 39]
    assert all(same(row, rows[row.id]) for row in found)
    assert all(row.added_ns > 1e18 for row in found)
    assert store.ids().tolist() == list(range(40))
    counts = {(r.make, r.model, r.label, r.year, r.viewpoint) for r in rows}
    assert set(store.facets()) == counts and store.facets().total() == 40


def test_facts_are_those_of_the_rows(store: ImageStore) -> None:
    rows = draw_rows(range(40))
    store.add(rows[:30])
    store.search(draw_queries(1), 3)
    store.add(rows[30:])
    store.remove([3, 35])
    found = store.metadata([35, 7, 39, 3, 1000, 7])
    assert sorted(found) == [7, 39]
    for number, facts in found.items():
        row = rows[number]
        assert facts == (row.make, row.model, row.label, row.year, row.viewpoint)


def test_embeddings_are_those_of_the_rows(store: ImageStore) -> None:
    rows = draw_rows(range(40))
    assert store.embeddings([3]) == {}
    store.add(rows[:30])
    store.search(draw_queries(1), 3)
    store.add(rows[30:])
    store.remove([3, 35])
    found = store.embeddings([35, 7, 39, 3, 1000, 7])
    assert sorted(found) == [7, 39]
    for number, embedding in found.items():
        np.testing.assert_array_equal(embedding, rows[number].embedding)


def test_a_search_is_that_of_mips(store: ImageStore) -> None:
    rows = draw_rows(range(300))
    store.add(rows[150:])
    store.add(rows[:150])
    queries = draw_queries(7)
    for k in (1, 5, 300, 320):
        check(store.search(queries, k), expected(rows, queries, k))


@pytest.mark.parametrize("where", FILTERS, ids=range(len(FILTERS)))
def test_a_filter_holds_and_shortens_no_answer(store: ImageStore, where: Filter) -> None:
    rows, queries = draw_rows(range(200)), draw_queries(3)
    store.add(rows)
    check(store.search(queries, 12, where), expected(rows, queries, 12, where))
    chosen = [row.id for row in rows if fits(row, where)]
    assert store.ids(where).tolist() == chosen and store.count(where) == len(chosen)


def test_equal_images_are_ordered_by_id_wherever_they_are(store: ImageStore) -> None:
    rows = [replace(draw_row(n), embedding=draw_row(1).embedding) for n in range(60)]
    store.add(rows[30:])
    store.add(rows[:30])
    answer = store.search(rows[0].embedding[None], 20)
    assert answer.ids.tolist() == [list(range(20))]
    assert len(set(answer.similarities[0].tolist())) == 1


def test_what_is_there_is_not_added_again(store: ImageStore) -> None:
    assert store.add(draw_rows(range(10))) == 10
    before = store.get(range(10))
    assert store.add(draw_rows(range(5, 15))) == 5
    assert store.add(draw_rows(range(15))) == 0
    assert store.add([]) == 0
    assert store.count() == 15
    assert [row.added_ns for row in store.get(range(10))] == [row.added_ns for row in before]


def test_what_was_removed_is_not_found_and_may_come_back(store: ImageStore) -> None:
    rows, queries = draw_rows(range(50)), draw_queries(3)
    store.add(rows)
    store.search(queries, 3)
    assert store.remove([3, 4, 5, 77, 4]) == 3
    left = [row for row in rows if row.id not in (3, 4, 5)]
    check(store.search(queries, 10), expected(left, queries, 10))
    assert store.count() == 47 and [row.id for row in store.get([2, 3, 6])] == [2, 6]
    changed = replace(draw_row(3), embedding=draw_row(31).embedding, box=(0.0, 0.0, 1.0, 1.0))
    assert store.add([changed]) == 1
    check(store.search(queries, 10), expected([*left, changed], queries, 10))
    assert same(store.get([3])[0], changed)


def test_nothing_is_lost_by_optimize_and_by_opening_again(opener: Opener) -> None:
    rows, queries = draw_rows(range(120)), draw_queries(3)
    first = opener()
    for start in range(0, 120, 10):
        first.add(rows[start : start + 10])
    first.remove(range(40, 60))
    first.optimize()
    left = rows[:40] + rows[60:]
    check(first.search(queries, 20), expected(left, queries, 20))
    first.close()
    second = opener(create=False)
    assert second.collection == COLLECTION
    check(second.search(queries, 20), expected(left, queries, 20))
    assert all(same(row, draw_row(row.id)) for row in second.get(second.ids()))


def test_other_rows_take_the_place_of_all_rows(opener: Opener) -> None:
    store = opener()
    store.add(draw_rows(range(20)))
    other = opener(create=False)
    store.mark_published({"database.npy": "a"})
    assert other.published() == {"database.npy": "a"}
    new, wide = Collection({**RECORD, "checkpoint_sha256": "d" * 64, "dim": 32}), DIM * 2

    def broken() -> Iterator[list[ImageRow]]:
        yield draw_rows(range(5), wide)
        raise InputError("a photo is missing")

    with pytest.raises(InputError, match="a photo is missing"):
        store.renew(new, broken())
    check(store.search(draw_queries(2), 5), expected(draw_rows(range(20)), draw_queries(2), 5))
    rows, queries = draw_rows(range(4, 30), wide), draw_queries(2, dim=wide)
    store.renew(new, iter([rows[:10], rows[10:]]))
    assert store.collection == new and store.published() is None
    check(store.search(queries, 5), expected(rows, queries, 5))
    store.add(draw_rows(range(30, 33), wide))
    store.optimize()
    again = opener(create=False)
    assert again.collection == new and again.count() == 29
    check(again.search(queries, 5), expected(draw_rows(range(4, 33), wide), queries, 5))
    with pytest.raises(InputError) as error:
        other.search(draw_queries(2), 5)
    one_line(error, "was replaced by another one")


def test_another_model_or_preparation_is_refused(opener: Opener) -> None:
    store = opener()
    for key, value in (
        ("checkpoint_sha256", "d" * 64),
        ("dim", 32),
        ("tta", "flip"),
    ):
        with pytest.raises(InputError) as error:
            store.collection.check_same(Collection({**RECORD, key: value}), store.name)
        one_line(error, store.name, key, str(value), "--store")
    other = Collection({**RECORD, "preparation": {"image_resolution": 64, "index": "b.csv"}})
    with pytest.raises(InputError) as error:
        store.collection.check_same(other, store.name)
    one_line(error, "image_resolution 32, not 64")


def test_wrong_rows_and_queries_are_one_line(store: ImageStore) -> None:
    long, nan = draw_row(1), draw_row(1)
    long.embedding = long.embedding * 2
    nan.embedding = nan.embedding * np.nan
    other = draw_row(1, dim=DIM * 2)
    for rows in ([long], [nan], [other], [draw_row(1), draw_row(1)]):
        with pytest.raises(InputError) as error:
            store.add(rows)
        one_line(error, store.name)
    assert store.count() == 0
    for queries, k in (
        (draw_queries(1), 0),
        (draw_queries(1, dim=DIM + 1), 1),
        (draw_queries(1) * np.nan, 1),
        (draw_queries(1)[0], 1),
    ):
        with pytest.raises(InputError):
            store.search(queries, k)


def test_a_missing_store_says_what_makes_it(opener: Opener) -> None:
    with pytest.raises(InputError) as error:
        opener(create=False)
    one_line(error, "process_data.publish")


def test_lancedb_opens_the_folder(tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb")
    with open_store(tmp_path, create=COLLECTION) as store:
        store.add(draw_rows(range(20)))
        wanted = store.search(draw_queries(1), 4).ids[0].tolist()
    table = lancedb.connect(tmp_path / "store").open_table("images")
    found = table.search(draw_queries(1)[0]).distance_type("dot").limit(4).to_list()
    assert [row["id"] for row in found] == wanted
    assert found[0]["path"] == draw_row(wanted[0]).path
