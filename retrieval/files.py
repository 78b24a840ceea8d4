"""Files that are whole or absent.

Everything is written to a temporary file in the same folder, flushed to the disk and renamed, so
that killing a program at any moment leaves the old file or the new one, never half of one.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` when the block ends without an error.

    What a killed process left behind for the same ``path`` is removed first; a file that another
    living process is writing is left alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_array(path: Path, array: np.ndarray) -> Path:
    """Write ``array`` in the .npy format, whole or not at all."""
    with whole(path) as part, part.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    return path


@contextmanager
def growing_array(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[np.ndarray]:
    """Yield a memory-mapped array to be filled, which becomes the .npy file ``path``.

    The disk space is taken at the start, so that a full disk is an OSError before the work
    rather than a bus error in the middle of it.
    """
    with whole(path) as part:
        array = np.lib.format.open_memmap(part, mode="w+", dtype=np.dtype(dtype), shape=shape)
        with part.open("rb+") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        yield array
        array.flush()


def _remove_leftovers(path: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.part")
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match and not _is_alive(int(match[1])):
            other.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
