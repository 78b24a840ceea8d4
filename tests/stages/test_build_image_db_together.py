"""Encoding in several processes: the same bytes, and nothing where one of them dies."""

import os
import signal
import time
from pathlib import Path

import numpy as np

import build_image_db
from retrieval.data import layout
from tests import torchrun


def test_two_processes_write_the_bytes_of_one(pipeline: Path) -> None:
    checkpoint = pipeline / "para" / "model.ep0"
    build_image_db.run(pipeline, checkpoint, output="one.npy", batch_size=8, device="cpu")
    options = ["--output=two.npy", "--batch_size=8", "--device=cpu"]
    arguments = [f"--dpath={pipeline}", f"--save_path={checkpoint}", *options]
    result = torchrun.run("build_image_db.py", *arguments)
    assert result.returncode == 0, result.stderr
    for one in ("one.npy", "one.json"):
        two = one.replace("one", "two")
        assert (pipeline / one).read_bytes() == (pipeline / two).read_bytes()
    assert result.stderr.count("embeddings of 16 dimensions") == 1
    assert not list(pipeline.glob(".*.part"))


def test_a_process_that_is_killed_stops_the_other_and_leaves_no_file(pipeline: Path) -> None:
    side = layout.IMAGE_MATRIX.load(pipeline).shape[-1]
    path = layout.IMAGE_MATRIX.at(pipeline, "many.npy")
    with path.open("wb") as file:  # a file with a hole: zeros that take no room
        header = {"descr": "|u1", "fortran_order": False, "shape": (200_000, 3, side, side)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 200_000 * 3 * side * side)
    options = [f"--save_path={pipeline / 'para' / 'model.ep0'}", "--device=cpu"]
    names = ["--input=many.npy", "--output=gone.npy"]
    log = pipeline / "log.txt"
    process = torchrun.start(log, "build_image_db.py", f"--dpath={pipeline}", *options, *names)
    deadline = time.monotonic() + 300
    while not list(pipeline.glob(".gone.npy.*")) and time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    os.kill(torchrun.workers(process)[1], signal.SIGKILL)
    assert process.wait(300) != 0
    assert "SIGKILL" in log.read_text() or "Signal 9" in log.read_text()
    assert not (pipeline / "gone.npy").exists()
    assert not (pipeline / "gone.json").exists()
