"""The files of a LanceDB store: the folder ``images.lance``, its rows and the lock of its writers.

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
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.store import rescoring
from retrieval.store.rows import Collection, ImageRow, check_new_rows

if TYPE_CHECKING:
    import lance
    import pyarrow as pa

TABLE = "images.lance"
LOCK = "writing.lock"
METADATA = b"collection"  # key of the table's metadata
WAIT_S = 60.0  # for another writer; a batch takes less than a second
ATTEMPTS = 8  # of a change that another process got ahead of

Result = TypeVar("Result")


def schema(dim: int, collection: str | None = None) -> "pa.Schema":
    """Return the columns of the table, in the order of `ImageRow`'s fields."""
    import pyarrow as pa

    columns = [
        *(("id", pa.int64()), ("embedding", pa.list_(pa.float32(), dim)), ("sha256", pa.string())),
        *(("label", pa.int64()), ("make", pa.string()), ("model", pa.string())),
        *(("year", pa.string()), ("viewpoint", pa.string()), ("box", pa.list_(pa.float64()))),
        *(("path", pa.string()), ("thumbnail", pa.binary()), ("added_ns", pa.int64())),
    ]
    return pa.schema(columns, {METADATA: collection.encode()} if collection else None)


def as_table(rows: Sequence[ImageRow], embeddings: np.ndarray, added_ns: int) -> "pa.Table":
    """Return rows as a table of Arrow.

    Args:
        rows: The rows.
        embeddings: (n, dim) float32, theirs.
        added_ns: The time to write into them.
    """
    import pyarrow as pa

    fields = schema(embeddings.shape[1])
    columns: list[Any] = []
    for field in fields:
        if field.name == "embedding":
            values = pa.array(embeddings.ravel())
            columns.append(pa.FixedSizeListArray.from_arrays(values, embeddings.shape[1]))
        elif field.name == "added_ns":
            columns.append(pa.array(np.full(len(rows), added_ns, np.int64)))
        else:
            columns.append(pa.array([getattr(row, field.name) for row in rows], field.type))
    return pa.table(columns, schema=fields)


def as_rows(table: "pa.Table") -> list[ImageRow]:
    """Return the rows of a table of Arrow that has all columns."""
    vectors = embeddings_of(table)
    names = [name for name in table.column_names if name != "embedding"]
    columns = [table.column(name).to_pylist() for name in names]
    rows = []
    for embedding, *values in zip(vectors, *columns, strict=True):
        fields = dict(zip(names, values, strict=True))
        fields["box"] = None if fields["box"] is None else tuple(fields["box"])
        rows.append(ImageRow(embedding=embedding, **fields))
    return rows


def embeddings_of(table: "pa.Table") -> np.ndarray:
    """Return the embeddings of a table of Arrow, (n, dim) float32."""
    column = table.column("embedding")
    dim = column.type.list_size
    chunks = [chunk.flatten().to_numpy() for chunk in column.chunks]
    return np.concatenate([np.empty(0, np.float32), *chunks]).reshape(-1, dim)


def nearest(
    dataset: "lance.LanceDataset", query: np.ndarray, n: int, where: str | None
) -> rescoring.Candidates:
    """Return the n best rows of a query by float32 products with all rows that fit.

    Args:
        dataset: One version of the store.
        query: (dim,) float32.
        n: Rows to return.
        where: SQL of the rows that may be returned.
    """
    table = dataset.to_table(
        columns=["id", "embedding", "_distance"],  # without it, Lance warns of its future
        filter=where,
        prefilter=True,
        nearest={"column": "embedding", "q": query, "k": n, "metric": "dot", "use_index": False},
    )
    return rescoring.Candidates(table["id"].to_numpy(), embeddings_of(table))


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

    path, columns = str(folder / TABLE), schema(collection.dim, collection.to_json())
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
                    raise InputError(
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
            raise InputError(
                f"the store {folder} is gone; restore it, or publish again with: "
                f"{_publish_command(folder)}"
            ) from error
        text = " ".join(str(error).split())
        if is_full(error):
            raise InputError(
                f"the disk of the store {folder} is full; make room and try again"
            ) from error
        if "lance" in text.lower() or isinstance(error, OSError):
            raise InputError(f"the store {folder} cannot be used: {text[:300]}") from error
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
