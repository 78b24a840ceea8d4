"""Files are whole or absent, whatever happens while they are written."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from retrieval.cli import REMEDIES
from retrieval.data import files

ROOT = Path(__file__).resolve().parents[2]
NEW_PID_NAMESPACE = ("unshare", "--pid", "--fork")  # where pids begin at 1, as in a container


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
        cwd=ROOT,
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


def writer_of(path: Path, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Return a process that is writing ``path``, and will be for a minute."""
    program = (
        "import time; from pathlib import Path; from retrieval.data import files\n"
        f"with files.whole(Path({str(path)!r})) as part:\n"
        "    part.write_text('theirs'); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("prefix", [(), NEW_PID_NAMESPACE], ids=["here", "pid namespace"])
def test_two_commands_never_write_one_file_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: Sequence[str]
) -> None:
    if prefix and subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("this user may not make pid namespaces")
    monkeypatch.setattr(files, "WAIT_S", 0.2)
    path = tmp_path / "a.txt"
    process = writer_of(path, prefix)
    assert process.stdout is not None
    with pytest.raises(OSError, match="busy") as caught:
        files.write_text(path, "mine")
    assert caught.value.errno in REMEDIES
    (part,) = tmp_path.iterdir()
    assert part.read_text() == "theirs"  # it was left alone
    files.write_text(tmp_path / "b.txt", "another file")
    # Kill the writer itself, not unshare before it.
    subprocess.run(["pkill", "-KILL", "-f", str(path)], check=True)
    process.wait()
    process.stdout.close()
    files.write_text(path, "mine again")
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.txt"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "a.txt"
    link.symlink_to(tmp_path / "disk" / "real.txt")
    files.write_text(link, "text")
    assert link.is_symlink() and (tmp_path / "disk" / "real.txt").read_text() == "text"


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path(os.devnull)):
        with pytest.raises(OSError, match="not a regular file"):
            files.write_text(path, "text")
    assert Path(os.devnull).is_char_device()


def test_what_lopq_left_beside_a_part_is_removed(tmp_path: Path) -> None:
    part = tmp_path / ".lopq.index.0123456789abcdef.part"
    beside = tmp_path / f".{part.name}.fedcba9876543210"
    for path in (part, beside):
        path.write_text("left")
    files.write_text(tmp_path / "lopq.index", "new")
    assert os.listdir(tmp_path) == ["lopq.index"]
