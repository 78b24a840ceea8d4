"""Stages in shards: any number, in any order, killed or not, give the bytes of one run."""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import build_image_db
from process_data import image_matrix, mips
from retrieval.data import layout, provenance
from retrieval.data.decoded_photos import PhotoOptions
from retrieval.data.formats import InputError
from retrieval.data.shards import Shards
from tests.conftest import SIDE
from tests.forks import Forks, is_running


def encode(pipeline: Path, **options: Any) -> Path:
    return build_image_db.run(pipeline, pipeline / "para/model.ep0", batch_size=8, **options)


def folder_of(pipeline: Path) -> Path:
    return pipeline / "database.npy.shards"


@pytest.mark.parametrize("count", [2, 7])
@pytest.mark.parametrize("source", ["matrix", "photos"])
def test_shards_in_any_order_give_the_bytes_of_one_run(
    pipeline: Path, count: int, source: str
) -> None:
    expected = encode(pipeline).read_bytes()
    record = provenance.load_record(pipeline, "database.npy")
    layout.DATABASE.at(pipeline).unlink()
    options: dict[str, Any] = {}
    if source == "photos":
        options = {"image_info": "car_front.csv", "photos": PhotoOptions(image_resolution=SIDE)}
    numbers = np.random.default_rng(count).permutation(count).tolist()
    for number in numbers[:-1]:
        assert encode(pipeline, shards=count, shard=number, **options) == folder_of(pipeline)
        assert not layout.DATABASE.at(pipeline).exists()
    path = encode(pipeline, shards=count, shard=numbers[-1], **options)
    assert path.read_bytes() == expected
    assert not folder_of(pipeline).exists()
    found = provenance.load_record(pipeline, "database.npy")
    assert found is not None
    assert record is not None
    assert found["images_sha256"] == record["images_sha256"]
    mips.run(pipeline, k=5, is_valid=True)


@pytest.mark.parametrize("count", [2, 7])
def test_a_matrix_in_shards(pipeline: Path, count: int) -> None:
    expected = layout.IMAGE_MATRIX.at(pipeline).read_bytes()
    record = provenance.load_record(pipeline, "imageset.npy", layout.IMAGE_MATRIX)
    layout.IMAGE_MATRIX.at(pipeline).unlink()
    image_matrix.run(pipeline, image_resolution=SIDE, shards=count, shard=count - 1)
    image_matrix.run(pipeline, image_resolution=SIDE, shards=count)
    path = layout.IMAGE_MATRIX.at(pipeline)
    assert path.read_bytes() == expected
    assert provenance.load_record(pipeline, "imageset.npy", layout.IMAGE_MATRIX) == record
    before = path.stat().st_mtime_ns
    assert image_matrix.run(pipeline, image_resolution=SIDE, shards=count) == path
    assert path.stat().st_mtime_ns == before  # what is there is not made again
    image_matrix.run(pipeline, image_resolution=24, shards=count)
    assert layout.IMAGE_MATRIX.load(pipeline).shape[-1] == 24


def test_what_is_there_is_not_made_again(pipeline: Path) -> None:
    encode(pipeline, shards=3, shard=1)
    made = folder_of(pipeline) / "1-of-3.npy"
    before = made.stat().st_mtime_ns
    encode(pipeline, shards=3, shard=0)
    encode(pipeline, shards=3, shard=1)
    assert made.stat().st_mtime_ns == before
    path = encode(pipeline, shards=3)
    before = path.stat().st_mtime_ns
    assert encode(pipeline, shards=3) == path
    assert encode(pipeline, shards=2) == path  # the same rows, however they were divided
    assert path.stat().st_mtime_ns == before


def test_shards_of_other_things_are_made_again(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encode(pipeline, shards=2, shard=0, tta="flip")
    encode(pipeline, shards=2, shard=1)
    assert "0-of-2.json was made from other files or options" in caplog.text
    path = encode(pipeline, shards=2)
    found = path.read_bytes()
    layout.DATABASE.at(pipeline).unlink()
    assert encode(pipeline).read_bytes() == found


@pytest.mark.parametrize("damage", ["rows", "array", "json", "content"])
def test_damaged_shards_are_made_again(pipeline: Path, damage: str) -> None:
    expected = encode(pipeline).read_bytes()
    layout.DATABASE.at(pipeline).unlink()
    encode(pipeline, shards=3, shard=0)
    encode(pipeline, shards=3, shard=1)
    manifest, array = (folder_of(pipeline) / f"1-of-3.{kind}" for kind in ("json", "npy"))
    content = json.loads(manifest.read_text())
    if damage == "rows":  # one that leaves a gap, or overlaps
        manifest.write_text(json.dumps(content | {"first": content["first"] - 1}))
    elif damage == "array":
        array.write_bytes(array.read_bytes()[:-4])
    elif damage == "json":
        manifest.write_text("{")
    else:
        array.write_bytes((folder_of(pipeline) / "0-of-3.npy").read_bytes())
    assert encode(pipeline, shards=3).read_bytes() == expected


def test_mistakes_are_said(pipeline: Path) -> None:
    for options, message in (
        ({"shards": 0}, "--shards must be from 1 to 65536; got 0"),
        ({"shards": 10**30}, "--shards must be from 1 to 65536; got 1000"),
        ({"shards": 3, "shard": 3}, "--shard must be from 0 to 2"),
        ({"shard": 1}, "--shard must be from 0 to 0"),
    ):
        with pytest.raises(InputError, match=message):
            encode(pipeline, **options)
    shards = Shards(pipeline / "database.npy", (48, 16), "float32", 3, {}, 8)
    with pytest.raises(InputError, match="lacks the shards 0, 1, 2 of 3"):
        shards.join()
    assert [tuple(shards.rows(i)) for i in range(3)] == [
        tuple(range(16)),
        tuple(range(16, 32)),
        tuple(range(32, 48)),
    ]


def test_killed_anywhere_and_run_again(pipeline: Path, tmp_path: Path, forks: Forks) -> None:
    expected = encode(pipeline).read_bytes()
    layout.DATABASE.at(pipeline).unlink()
    code = "import sys, build_image_db; sys.exit(build_image_db.main(sys.argv[1:]))"
    words = [f"--dpath={pipeline}", f"--save_path={pipeline / 'para/model.ep0'}"]
    words += ["--batch_size=8", "--shards=6", "--device=cpu"]
    log = tmp_path / "log.txt"
    for count in (1, 4):
        (pid,) = forks.begin(log, code, *words)
        while len(list(folder_of(pipeline).glob("*.json"))) < count and is_running(pid):
            time.sleep(0.002)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        forks.statuses()
    assert forks.run(log, code, *words) == 0, log.read_text()
    assert layout.DATABASE.at(pipeline).read_bytes() == expected
    assert not list(pipeline.glob(".*.part"))
