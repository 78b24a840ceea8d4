"""What goes wrong while a store is open: one line that names it, and no damage."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.data.formats import InputError
from retrieval.store.backends import open_store
from retrieval.store.base import ImageStore
from retrieval.store.rows import Collection
from tests.milvus_server import Server, drop
from tests.store import kills
from tests.store.conftest import Opener, one_line
from tests.store.drawn_rows import (
    COLLECTION,
    RECORD,
    check,
    draw_queries,
    draw_row,
    draw_rows,
    expected,
    same,
)

CALLS: list[Callable[[ImageStore], object]] = [
    lambda store: store.search(draw_queries(1), 3),
    lambda store: store.add([draw_row(1000)]),
    lambda store: store.remove([1]),
    lambda store: store.get([1]),
    lambda store: store.ids(),
    lambda store: store.count(),
    lambda store: store.facets(),
    lambda store: store.optimize(),
]


def all_name(store: ImageStore, *words: str) -> None:
    """Check that every call is one line that names the store."""
    for call in CALLS:
        with pytest.raises(InputError) as error:
            call(store)
        one_line(error, store.name, *words)


@pytest.mark.parametrize("gone", ["store", "store/images.lance"])
def test_a_removed_store_is_named_and_may_come_back(tmp_path: Path, gone: str) -> None:
    rows, queries = draw_rows(range(30)), draw_queries(2)
    with open_store(tmp_path, create=COLLECTION) as store:
        store.add(rows)
        check(store.search(queries, 3), expected(rows, queries, 3))
        (tmp_path / gone).rename(tmp_path / "away")
        all_name(store, "is gone", "process_data.publish")
        assert not (tmp_path / gone).exists()
        (tmp_path / "away").rename(tmp_path / gone)
        check(store.search(queries, 3), expected(rows, queries, 3))
        assert store.add([draw_row(1000)]) == 1
        shutil.rmtree(tmp_path / "store")
        with open_store(tmp_path, create=COLLECTION) as other:
            other.add(rows[:5])
            other.remove([2])
        left = [*rows[:2], *rows[3:5]]
        check(store.search(queries, 3), expected(left, queries, 3))
        shutil.rmtree(tmp_path / "store")
        open_store(tmp_path, create=Collection({**RECORD, "checkpoint_sha256": "d" * 64})).close()
        all_name(store, "was replaced")


def test_a_full_disk_is_named_and_nothing_is_lost(small_disk: Path) -> None:
    with open_store(small_disk, create=COLLECTION) as store:
        added = 0
        with pytest.raises(InputError) as error:
            for start in range(0, 10**6, 500):
                store.add(draw_rows(range(start, start + 500)))
                added = start + 500
        one_line(error, store.name, "is full", "make room")
        assert 0 < added == store.count()
        queries = draw_queries(2)
        check(store.search(queries, 5), expected(draw_rows(range(added)), queries, 5))
        assert all(same(row, draw_row(row.id)) for row in store.get(range(0, added, 50)))


WRITER = """
import sys
from pathlib import Path
from retrieval.store.backends import open_store
from tests.store.drawn_rows import draw_rows
folder, first = Path(sys.argv[1]), int(sys.argv[2])
with open_store(folder) as store:
    for start in range(first, first + 200, 10):
        assert store.add(draw_rows(range(start, start + 10))) == 10
        assert store.add(draw_rows(range(5000, 5010))) in (0, 10)  # both writers have these
        assert store.remove([start]) == 1
"""


def test_two_writers_a_reader_and_optimize_at_once(tmp_path: Path) -> None:
    queries = draw_queries(2)
    with open_store(tmp_path, create=COLLECTION) as store:
        root = str(kills.ROOT)
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        writers = [
            subprocess.Popen([*command, first], cwd=root, env={**os.environ, "PYTHONPATH": root})
            for first in ("0", "1000")
        ]
        while any(writer.poll() is None for writer in writers):
            answer = store.search(queries, 20)
            found = [n for n in answer.ids[0].tolist() if n >= 0]
            assert len(set(found)) == len(found)
            rows = {row.id: row for row in store.get(found)}
            for number, similarity in zip(found, answer.similarities[0].tolist(), strict=False):
                source = draw_row(number)
                assert number not in rows or same(rows[number], source)
                assert similarity == pytest.approx(float(source.embedding @ queries[0]), abs=1e-6)
            store.optimize()
        assert [writer.returncode for writer in writers] == [0, 0]
        numbers = [n for first in (0, 1000) for n in range(first, first + 200) if n % 10]
        rows = draw_rows(sorted([*numbers, *range(5000, 5010)]))
        assert store.ids().tolist() == [row.id for row in rows]
        check(store.search(queries, 30), expected(rows, queries, 30))


def test_threads_share_a_store(store: ImageStore) -> None:
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for start in range(first, first + 40, 10):
                store.add(draw_rows(range(start, start + 10)))
                assert store.search(draw_queries(1), 3).ids.shape == (1, 3)
                store.remove([start])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    rows = draw_rows(n for first in (0, 100, 200) for n in range(first, first + 40) if n % 10)
    queries = draw_queries(2)
    check(store.search(queries, 200), expected(rows, queries, 200))


def test_a_killed_writer_loses_nothing(tmp_path: Path, store_name: str) -> None:
    """The short form of ``python -m tests.store.kills``."""
    watch = kills.Watch(tmp_path, store_name)
    watch.fill()
    for operation in ("optimize", "renew"):
        watch.kill(operation, 0.3)
    assert watch.compared > 0


def test_a_partial_index_of_milvus_lite_is_made_anew(tmp_path: Path) -> None:
    """Milvus Lite writes these files in place, so a killed process leaves a part of one."""
    rows, queries = draw_rows(range(50)), draw_queries(2)
    with open_store(tmp_path, "store.db", create=COLLECTION) as store:
        store.add(rows)
        store.optimize()
    (index,) = (tmp_path / "store.db").rglob("*.idx")
    whole = index.read_bytes()
    for size in (0, 40, len(whole) - 1):
        index.write_bytes(whole[:size])
        with open_store(tmp_path, "store.db") as store:
            check(store.search(queries, 5), expected(rows, queries, 5))
        assert index.read_bytes() == whole


def test_another_process_has_the_file_of_milvus_lite(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from retrieval.store.backends import open_store\n"
        "from tests.store.drawn_rows import COLLECTION\n"
        "store = open_store(Path(sys.argv[1]), 'store.db', create=COLLECTION)\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=kills.ROOT, text=True, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == "open\n"
        with pytest.raises(InputError) as error:
            open_store(tmp_path, "store.db")
        one_line(error, "store.db", "another process")
        other.communicate("")
    open_store(tmp_path, "store.db").close()


def test_a_server_that_stops_and_returns(milvus_server: Server, tmp_path: Path) -> None:
    drop(milvus_server.address)
    rows, queries = draw_rows(range(30)), draw_queries(2)
    with open_store(tmp_path, milvus_server.address, create=COLLECTION) as store:
        store.add(rows)
        check(store.search(queries, 5), expected(rows, queries, 5))
        milvus_server.stop()
        with pytest.raises(InputError) as error:
            store.search(queries, 5)
        one_line(error, milvus_server.address, "see that it runs")
        milvus_server.start()
        for _ in range(60):
            try:
                answer = store.search(queries, 5)
                break
            except InputError:  # it loads the collection again
                threading.Event().wait(1)
        check(answer, expected(rows, queries, 5))
        assert store.add([draw_row(1000)]) == 1


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        open_store(tmp_path, "http://127.0.0.1:9", create=COLLECTION)
    one_line(error, "http://127.0.0.1:9", "see that it runs")


def test_an_opener_is_one_store(opener: Opener) -> None:
    first, second = opener(), opener()
    first.add(draw_rows(range(5)))
    assert second.count() == 5
    second.close()
    assert first.count() == 5
