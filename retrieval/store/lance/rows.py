"""Rows as tables of Arrow, which Lance reads and writes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.store.rows import ImageRow

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = b"collection"  # key of the table's metadata


def arrow_schema(dim: int, collection: str | None = None) -> "pa.Schema":
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

    fields = arrow_schema(embeddings.shape[1])
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
