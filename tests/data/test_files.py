"""Files are whole or absent, whatever happens while they are written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from retrieval.data import files


def test_a_failing_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), files.whole(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="a.txt"), files.whole(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")


def test_row_writer_writes_rows_in_any_order(tmp_path: Path) -> None:
    expected = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
    with files.row_writer(tmp_path / "a.npy", expected.shape, "float32") as writer:
        for start in (4, 0, 2):
            writer.write(start, expected[start : start + 2])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected)


@pytest.mark.parametrize(
    ("row", "rows"),
    [(2, np.zeros((2, 2), "f4")), (0, np.zeros((1, 3), "f4")), (0, np.zeros((1, 2), "f8"))],
)
def test_row_writer_refuses_what_does_not_fit(tmp_path: Path, row: int, rows: np.ndarray) -> None:
    with (
        pytest.raises(ValueError, match="rows"),
        files.row_writer(tmp_path / "a.npy", (3, 2), "float32") as writer,
    ):
        writer.write(row, rows)
    assert not (tmp_path / "a.npy").exists()


def test_kill_leaves_the_old_file_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    path = files.write_text(tmp_path / "a.npy", "old")
    program = (
        "import sys, time; from pathlib import Path; from retrieval.data import files\n"
        f"with files.row_writer(Path({str(path)!r}), (1000, 1000), 'float32'):\n"
        "    print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    files.write_text(path, "new")
    assert os.listdir(tmp_path) == ["a.npy"]


def test_the_part_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    other = tmp_path / f".a.txt.{process.pid}.part"
    other.touch()
    files.write_text(tmp_path / "a.txt", "mine")
    assert other.exists()
    process.kill()
    process.wait()
    time.sleep(0.01)
    files.write_text(tmp_path / "a.txt", "mine again")
    assert not other.exists()
