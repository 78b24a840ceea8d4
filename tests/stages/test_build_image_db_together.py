"""Encoding in several processes: the same bytes, and nothing where one of them dies."""

import os
import signal
import time
from pathlib import Path

import numpy as np

import build_image_db
from retrieval.data import layout
from tests import torchrun

# Two files by the same two processes: starting takes longer.
PROGRAM = """
import sys

import torch

import build_image_db

# The first call joins the processes. They cannot join twice, so they stay together.
torch.distributed.destroy_process_group = lambda: None
for names in (["--output=two.npy"], ["--input=many.npy", "--output=gone.npy"]):
    assert build_image_db.main([*sys.argv[1:], *names]) == 0
"""


def test_two_processes_write_the_bytes_of_one_and_no_file_where_one_is_killed(
    pipeline: Path, tmp_path: Path
) -> None:
    side = layout.IMAGE_MATRIX.load(pipeline).shape[-1]
    path = layout.IMAGE_MATRIX.at(pipeline, "many.npy")
    with path.open("wb") as file:  # a file with a hole: zeros that take no room
        header = {"descr": "|u1", "fortran_order": False, "shape": (200_000, 3, side, side)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 200_000 * 3 * side * side)
    program, log = tmp_path / "program.py", tmp_path / "log.txt"
    program.write_text(PROGRAM)
    checkpoint = pipeline / "para" / "model.ep0"
    options = [f"--dpath={pipeline}", f"--save_path={checkpoint}"]
    process = torchrun.start(log, str(program), *options, "--batch_size=8", "--device=cpu")
    deadline = time.monotonic() + 300
    while not list(pipeline.glob(".gone.npy.*")) and time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    os.kill(torchrun.workers(process)[1], signal.SIGKILL)
    assert process.wait(300) != 0
    said = log.read_text()
    assert "SIGKILL" in said or "Signal 9" in said
    assert not (pipeline / "gone.npy").exists()
    assert not (pipeline / "gone.json").exists()

    build_image_db.run(pipeline, checkpoint, output="one.npy", batch_size=8, device="cpu")
    for one in ("one.npy", "one.json"):
        two = one.replace("one", "two")
        assert (pipeline / one).read_bytes() == (pipeline / two).read_bytes()
    assert said.count("embeddings of 16 dimensions") == 1
    assert not list(pipeline.glob(".two.npy.*"))
