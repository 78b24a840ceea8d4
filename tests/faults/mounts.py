"""Small file systems of their own, for disks that are full or read-only. They need root."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READ_ONLY, REMOUNT, DETACH = 1, 32, 2
NEW_PIDS = 0x20000000

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[None]:
    """Mount a file system of ``size`` bytes, held in memory, on a new folder.

    Raises:
        PermissionError: This user may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _mount(folder, 0, size)
    try:
        yield
    finally:
        _libc.umount2(os.fsencode(folder), DETACH)


def resize(folder: Path, size: int) -> None:
    _mount(folder, REMOUNT, size)


def make_read_only(folder: Path, size: int) -> None:
    _mount(folder, REMOUNT | READ_ONLY, size)


def _mount(folder: Path, flags: int, size: int) -> None:
    options = f"size={size}".encode()
    if _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options):
        raise PermissionError(ctypes.get_errno(), "cannot mount", str(folder))


def enter_pid_namespace() -> None:
    """Go on as process 1 of a pid namespace, as in a container; the caller waits for it.

    Raises:
        PermissionError: This user may not make one.
    """
    if _libc.unshare(NEW_PIDS):
        raise PermissionError(ctypes.get_errno(), "cannot unshare")
    pid = os.fork()
    if pid:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os._exit(status if status >= 0 else 128 - status)


def why_not() -> str:
    """Say why this user cannot mount or make namespaces; empty if it can."""
    pid = os.fork()
    if not pid:
        # In namespaces of its own, which end with it.
        os._exit(int(bool(_libc.unshare(NEW_PIDS | 0x00020000))))
    return "needs root" if os.waitpid(pid, 0)[1] else ""
