"""Exact search by several processes finds, to the byte, what one finds."""

from pathlib import Path

import pytest

from process_data import mips
from retrieval.data import layout
from retrieval.evaluation.pipeline import RankingOptions
from retrieval.search import tiles
from tests.forks import Forks

# The real tiles hold more images than this gallery has: one process would search all of it.
SMALL_TILES = (4, 8)
PROGRAM = f"""
import sys
from process_data import mips
from retrieval.search import tiles

tiles.SHAPES["cpu"] = {SMALL_TILES}
searched = tiles.searched_rows
def spy(*arguments):
    rows = searched(*arguments)
    assert len(rows) >= 8 and not len(rows) == arguments[0]
    return rows
tiles.searched_rows = spy
sys.exit(mips.main(sys.argv[1:]))
"""


EXPANDED = {"qe": 3, "dba": 2, "rerank_kr": 12, "kr_k1": 6}


@pytest.mark.parametrize("options", [{}, EXPANDED], ids=["plain", "expanded"])
def test_two_processes_write_the_files_of_one(
    pipeline: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forks: Forks,
    options: dict[str, int],
) -> None:
    monkeypatch.setitem(tiles.SHAPES, "cpu", SMALL_TILES)
    mips.run(pipeline, k=3, ranking=RankingOptions(**options))
    names = [
        *(file.name for file in (layout.NEIGHBORS, layout.SIMILARITIES, layout.PER_QUERY)),
        *(file.name for file in (layout.METRICS, layout.EVALUATION)),
    ]
    alone = {name: (pipeline / name).read_bytes() for name in names}
    for name in names:
        (pipeline / name).unlink()
    log = tmp_path / "log.txt"
    flags = [f"--{name}={value}" for name, value in options.items()]
    ended = forks.run_two(log, PROGRAM, f"--dpath={pipeline}", "--k=3", *flags)
    assert ended == [0, 0], log.read_text()
    assert {name: (pipeline / name).read_bytes() for name in names} == alone
    assert log.read_text().count("n_gallery") == 1
