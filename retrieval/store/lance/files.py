"""The folder of a LanceDB store: its table ``images.lance``, and the lock of its writers.

The folder of the store is a LanceDB database with the table ``images``. It is read and written
through Lance, the table format under LanceDB, which is imported four times as fast and adds rows
twice as fast.
"""

import errno
import fcntl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.store.base import StoreFailure
from retrieval.store.lance.rows import arrow_schema, as_table
from retrieval.store.rows import Collection, ImageRow, check_new_rows

TABLE = "images.lance"
LOCK = "writing.lock"
WAIT_S = 60.0  # for another writer; a batch takes less than a second
ATTEMPTS = 8  # of a change that another process got ahead of

Result = TypeVar("Result")


def replace_rows(
    folder: Path, collection: Collection, batches: Iterable[Sequence[ImageRow]]
) -> None:
    """Replace all rows of a store by others, in one atomic step at the end.

    Args:
        folder: The folder of the store.
        collection: What they have in common.
        batches: The rows.
    """
    import lance
    from lance.fragment import write_fragments

    path, columns = str(folder / TABLE), arrow_schema(collection.dim, collection.to_json())
    written: list[Any] = []
    for rows in batches:
        embeddings = check_new_rows(rows, collection.dim, str(folder))
        table = as_table(rows, embeddings, time.time_ns())
        written += write_fragments(table, path, mode="overwrite", schema=columns)
    lance.LanceDataset.commit(path, lance.LanceOperation.Overwrite(columns, written))


@contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Lock the rows for one writer, process or thread; the lock ends with its process."""
    with (folder / LOCK).open("ab") as file:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreFailure(
                        f"another command is changing the store {folder}; run this one again when "
                        "that has ended"
                    ) from None
                time.sleep(0.005)
            except OSError:  # a file system without locks
                break
        yield


def _publish_command(folder: Path) -> str:
    """Return the command that makes a store: in the folder above it that has a database."""
    has_database = (above for above in folder.parents if layout.DATABASE.at(above).exists())
    data_dir = next(has_database, folder.parent)
    return layout.STORE.made_by(data_dir, folder.relative_to(data_dir).as_posix())


@contextmanager
def lance_errors(folder: Path) -> Iterator[None]:
    """Turn errors of Lance that a person can put right into one line that names the store."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        if not (folder / TABLE).is_dir():
            raise StoreFailure(
                f"the store {folder} is gone; restore it, or publish again with: "
                f"{_publish_command(folder)}"
            ) from error
        text = " ".join(str(error).split())
        if is_full(error):
            raise StoreFailure(
                f"the disk of the store {folder} is full; make room and try again"
            ) from error
        if "lance" in text.lower() or isinstance(error, OSError):
            raise StoreFailure(f"the store {folder} cannot be used: {text[:300]}") from error
        raise


def is_full(error: BaseException) -> bool:
    """Return whether an error, in whatever layer, is that of a full disk or quota."""
    codes = {errno.ENOSPC, errno.EDQUOT}
    if isinstance(error, OSError) and error.errno in codes:
        return True
    return any(f"os error {code}" in str(error) for code in codes)


def retried(change: Callable[[], Result]) -> Result:
    """Make a change, again if another process changed the same files in between."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return change()
        except (OSError, RuntimeError) as error:
            if "conflict" not in str(error).lower():
                raise
            time.sleep(0.02 * 2**attempt)
    return change()
