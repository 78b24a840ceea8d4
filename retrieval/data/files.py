"""Atomic file writes: a file is complete or absent.

Files are written under a temporary name in the same folder, flushed to disk and renamed. A program
killed at any moment leaves the old or the new file, never a partial one.

The temporary file is locked while it is written. The lock ends with the process, on whatever host
or in whatever container it ran, so the next command that writes the same file can tell what a
killed one left, and removes it. While another command writes the file, it waits a little and then
gives up: two commands never write one file at a time.
"""

import errno
import fcntl
import io
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

WAIT_S = 10.0  # for another command that writes the same file


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to ``path`` if the block succeeds.

    If ``path`` is a symbolic link, its target is replaced and the link stays.

    Raises:
        OSError: EBUSY: another command is writing the file; ENOTSUP: it is not a regular file.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.ENOTSUP, "not a regular file", str(path))
    part, lock = _locked_part(path, is_folder=False)
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
        os.close(lock)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to ``path``, which must not exist yet."""
    part, lock = _locked_part(path, is_folder=True)
    try:
        yield part
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        os.close(lock)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a temporary file for those who write ``path``, which lasts as long as the block.

    What a killed command leaves is removed when ``path`` is written next.

    Raises:
        OSError: EBUSY: another command is writing ``path``.
    """
    part, lock = _locked_part(path, is_folder=False)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
        os.close(lock)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Make ``folder``, and hold it against other commands that ask for it, within the block.

    Raises:
        OSError: EBUSY: another command holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(folder)) from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(lock)


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


def _locked_part(path: Path, is_folder: bool) -> tuple[Path, int]:
    """Return a new temporary file or folder for ``path``, and the descriptor that locks it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        if is_folder:
            part.mkdir()
            lock = os.open(part, os.O_RDONLY)
        else:
            lock = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if part.exists():
            return part, lock
        os.close(lock)  # another command took it for a leftover before it was locked


def _remove_leftovers(path: Path) -> None:
    """Remove what killed commands left of ``path``; wait for those that still write it."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]+\.part")
    deadline = time.monotonic() + WAIT_S
    while True:
        found = [other for other in path.parent.iterdir() if name.fullmatch(other.name)]
        written = [other for other in found if _is_being_written(other)]
        if not written:
            return
        if time.monotonic() > deadline:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        time.sleep(0.05)


def _is_being_written(part: Path) -> bool:
    """Return whether a running command holds a temporary file; remove the file if none does."""
    try:
        lock = os.open(part, os.O_RDONLY)
    except OSError:  # finished in the meantime
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks: nobody can tell, so it stays
        return False
    else:
        for rest in (*part.parent.glob(f".{part.name}.*"), part):  # lopq writes beside the part
            shutil.rmtree(rest) if rest.is_dir() else rest.unlink(missing_ok=True)
        return False
    finally:
        os.close(lock)
