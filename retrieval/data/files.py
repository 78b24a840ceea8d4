"""Atomic file writes: a file is complete or absent.

Files are written under a temporary name in the same folder, flushed to disk and renamed. A program
killed at any moment leaves the old or the new file, never a partial one. The next process that
writes the same file removes the temporary files of dead processes; those of running processes stay.
"""

import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to ``path`` if the block succeeds."""
    part = _temporary(path)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if error.filename is None:  # the error of a full disk names no file
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to ``path``, which must not exist yet."""
    part = _temporary(path)
    part.mkdir()
    try:
        yield part
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, atomically."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_array(path: Path, array: np.ndarray) -> Path:
    """Write ``array`` in .npy format, atomically."""
    with whole(path) as part, part.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    return path


class RowWriter:
    """Writes rows of a .npy file in place, from any thread, without buffering them."""

    def __init__(
        self, file: BinaryIO, shape: tuple[int, ...], dtype: str, is_new: bool = True
    ) -> None:
        """Prepare to write.

        Args:
            file: An open file.
            shape: Shape of the whole array.
            dtype: Its dtype.
            is_new: Write the header and allocate the file.
        """
        self.shape = shape
        self.dtype = np.dtype(dtype)
        header = io.BytesIO()
        content = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, content)
        self._file = file
        self._start = header.tell()
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * self.dtype.itemsize
        if is_new:
            file.write(header.getvalue())
            file.flush()
            size = self._start + shape[0] * self._row_bytes
            if hasattr(os, "posix_fallocate") and size:
                # Fail on a full disk now, not after hours of work.
                os.posix_fallocate(file.fileno(), 0, size)

    def write(self, row: int, rows: np.ndarray) -> None:
        """Write ``rows``, (n, *shape[1:]) of the declared dtype, starting at ``row``."""
        if rows.dtype != self.dtype or rows.shape[1:] != self.shape[1:]:
            raise ValueError(f"rows of {rows.dtype} {rows.shape} for a file of {self.shape}")
        if not 0 <= row <= self.shape[0] - len(rows):
            raise ValueError(f"rows {row} to {row + len(rows)} for a file of {self.shape}")
        data = memoryview(rows.tobytes())
        offset = self._start + row * self._row_bytes
        while data:
            written = os.pwrite(self._file.fileno(), data, offset)
            data, offset = data[written:], offset + written


@contextmanager
def row_writer(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[RowWriter]:
    """Yield a writer for the .npy file ``path``, which appears if the block succeeds.

    Memory stays constant, whereas the pages of a memory map would add up to the whole file.
    """
    with whole(path) as part, part.open("wb") as file:
        yield RowWriter(file, shape, dtype)


def _temporary(path: Path) -> Path:
    """Return this process's temporary name for ``path``; remove those of dead processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.part")
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match and not _is_alive(int(match[1])):
            shutil.rmtree(other) if other.is_dir() else other.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
