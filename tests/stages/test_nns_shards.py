"""The index in shards: the bytes of the whole, whatever was killed or damaged in between."""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from process_data import mips, nns
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation import code_shards
from retrieval.evaluation.pipeline import RankingOptions
from tests.forks import Forks, is_running

BLOCK_ROWS = 4  # shards begin at multiples; 65,536 outside of tests


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lopq.parallel.BLOCK_ROWS", BLOCK_ROWS)


def index(pipeline: Path, **options: Any) -> bytes:
    """Make the index, and return its bytes."""
    nns.run(pipeline, **{"dimension": 4, "k": 3, "cells": 3, **options})
    assert not folder_of(pipeline).exists()
    return layout.LOPQ_INDEX.at(pipeline).read_bytes()


def folder_of(pipeline: Path) -> Path:
    return pipeline / "lopq.index.shards"


def forget(pipeline: Path) -> None:
    layout.LOPQ_INDEX.at(pipeline).unlink()


def stop_after(pipeline: Path, count: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Make an index in shards, and stop when some are there."""
    make = code_shards.CodeJob.make

    def stopping(job: code_shards.CodeJob, number: int) -> None:
        if number == count:
            raise KeyboardInterrupt
        make(job, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(code_shards.CodeJob, "make", stopping)
        index(pipeline, **options)


@pytest.mark.parametrize(
    ("shards", "options"), [(2, {}), (7, {"keep": "int8", "rerank": 10}), (40, {})]
)
def test_shards_give_the_bytes_of_the_whole(
    pipeline: Path, shards: int, options: dict[str, Any]
) -> None:
    expected, record = index(pipeline, **options), layout.LOPQ_RECORD.load(pipeline)
    evaluated = layout.METRICS.at(pipeline).read_bytes()
    forget(pipeline)
    assert index(pipeline, shards=shards, **options) == expected
    assert layout.LOPQ_RECORD.load(pipeline) == record
    assert layout.METRICS.at(pipeline).read_bytes() == evaluated
    before = layout.LOPQ_INDEX.at(pipeline).stat().st_mtime_ns
    index(pipeline, shards=shards + 1, **options)  # made once, however it was divided
    assert layout.LOPQ_INDEX.at(pipeline).stat().st_mtime_ns == before


def test_a_stopped_run_goes_on(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    expected = index(pipeline)
    forget(pipeline)
    stop_after(pipeline, 3, monkeypatch, shards=6)
    there = {path: path.stat().st_mtime_ns for path in folder_of(pipeline).glob("*.codes")}
    assert len(there) == 3
    assert not layout.LOPQ_INDEX.at(pipeline).exists()
    made: list[int] = []
    make = code_shards.CodeJob.make
    with monkeypatch.context() as patch:
        patch.setattr(
            code_shards.CodeJob,
            "make",
            lambda job, number: (made.append(number), make(job, number)),
        )
        caplog.clear()
        assert index(pipeline, shards=6) == expected
    assert made == [3, 4, 5]
    assert not any(message.startswith("fitted") for message in caplog.messages)


@pytest.mark.parametrize("damage", ["cut", "changed", "swapped", "model", "record"])
def test_damaged_shards_are_made_again(
    pipeline: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = index(pipeline)
    forget(pipeline)
    stop_after(pipeline, 3, monkeypatch, shards=4)
    folder = folder_of(pipeline)
    path, content = folder / "1-of-4.codes", (folder / "1-of-4.codes").read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-3])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 255]))
    elif damage == "swapped":
        path.write_bytes((folder / "2-of-4.codes").read_bytes())
    elif damage == "model":
        (folder / "model.lopq").write_bytes(b"")
    else:
        (folder / "model.json").write_text("{")
    assert index(pipeline, shards=4) == expected


def test_shards_of_another_model_are_not_joined(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = index(pipeline, seed=8)
    forget(pipeline)
    stop_after(pipeline, 3, monkeypatch, shards=4)  # of another seed
    assert index(pipeline, shards=4, seed=8) == expected
    assert "0-of-4.codes was made from another model or other rows" in caplog.text


def test_killed_anywhere_and_run_again(pipeline: Path, tmp_path: Path, forks: Forks) -> None:
    code = f"""
import sys, lopq.parallel
lopq.parallel.BLOCK_ROWS = {BLOCK_ROWS}
from process_data import nns
sys.exit(nns.main(sys.argv[1:]))
"""
    words = [f"--dpath={pipeline}", "--dimension=4", "--k=3", "--cells=3", "--shards=9"]
    log = tmp_path / "log.txt"
    expected = index(pipeline)
    forget(pipeline)
    for count in (1, 5):
        (pid,) = forks.begin(log, code, *words)
        while len(list(folder_of(pipeline).glob("*.codes"))) < count and is_running(pid):
            time.sleep(0.001)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        forks.statuses()
    assert forks.run(log, code, *words) == 0, log.read_text()
    assert layout.LOPQ_INDEX.at(pipeline).read_bytes() == expected
    assert not folder_of(pipeline).exists()
    assert not list(pipeline.glob(".*"))


def test_mistakes_are_said(pipeline: Path) -> None:
    for options, message in (
        ({"shards": 0}, "--shards must be from 1"),
        ({"engine": "ray"}, "it takes --shards=2 or more"),
        ({"shards": 2, "ranking": RankingOptions(dba=2)}, "leave out --dba or --shards"),
    ):
        with pytest.raises(InputError, match=message):
            nns.run(pipeline, dimension=4, k=3, **options)  # type: ignore[arg-type]


def test_a_database_that_was_made_in_shards_is_searched_as_any_other(pipeline: Path) -> None:
    import build_image_db

    layout.DATABASE.at(pipeline).unlink()
    build_image_db.run(pipeline, pipeline / "para/model.ep0", batch_size=8, shards=3)
    index(pipeline, shards=3, quota=1000, rerank=1000)
    ids = np.array(layout.NEIGHBORS.load(pipeline))
    mips.run(pipeline, k=3)
    np.testing.assert_array_equal(layout.NEIGHBORS.load(pipeline), ids)
    record = json.loads(layout.DATABASE_RECORD.at(pipeline).read_text())
    assert record["made_from"]
