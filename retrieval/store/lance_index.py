"""The approximate search of a LanceDB store that outgrew the exact one.

The index covers the rows that were there when it was made or renewed. Lance compares newer rows
one by one and leaves removed ones out. What it returns are candidates; their similarities are
computed exactly. Guards, each against a recall that was measured without it (docs/serving.md): the
number of cells to read and of candidates is always set, and a filter that few rows fit goes past
the index.
"""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data import files
from retrieval.store import lance_files, rescoring

if TYPE_CHECKING:
    import lance

RECORD = "index.json"  # in the store's folder: rows, settings and the measured recall
CODE_DIMS = 8  # dimensions of a byte of a code
PROBES = 100  # cells that are read, at least
REFINE = 10  # candidates for each neighbor
FEW_ROWS = 50_000  # a filter that so many rows fit is searched exactly
MEASURED, MEASURED_K = 32, 20  # rows that are searched again to measure the recall


def has_index(dataset: "lance.LanceDataset") -> bool:
    """Return whether the embeddings have an index."""
    return any("embedding" in index.field_names for index in dataset.describe_indices())


def options(dataset: "lance.LanceDataset") -> dict[str, int]:
    """Return the options of a search: more cells are read where a filter leaves too few rows."""
    n_cell = n_cells(dataset.count_rows())
    return {
        "minimum_nprobes": min(PROBES, n_cell),
        "maximum_nprobes": n_cell,
        "refine_factor": REFINE,
    }


def n_cells(n_row: int) -> int:
    return max(1, int(n_row**0.5))


def make_or_renew(dataset: "lance.LanceDataset", folder: Path) -> None:
    """Make the index, or fold newer rows into it; measure its recall and keep that."""
    logging.getLogger("pylance").setLevel(logging.WARNING)  # it logs how long parts of it took
    dim = dataset.schema.field("embedding").type.list_size
    if has_index(dataset):
        dataset.optimize.optimize_indices()
    else:
        dataset.create_index(
            "embedding",
            "IVF_PQ",
            metric="dot",
            num_partitions=n_cells(dataset.count_rows()),
            num_sub_vectors=max(n for n in range(1, dim // CODE_DIMS + 1) if dim % n == 0),
        )
    text = {"rows": dataset.count_rows(), **options(dataset), "recall": measured(dataset)}
    files.write_text(folder / RECORD, json.dumps(text, indent=1) + "\n")


def kept_recall(folder: Path) -> float | None:
    """Return the recall that was measured when the index was made; None if it was not."""
    try:
        return float(json.loads((folder / RECORD).read_text(encoding="utf-8"))["recall"])
    except (OSError, ValueError, KeyError):
        return None


def measured(dataset: "lance.LanceDataset") -> float:
    """Return the share of exact neighbors that the index finds for some of the rows."""
    n_row = dataset.count_rows()
    rows = np.unique(np.linspace(0, n_row - 1, MEASURED).astype(int))
    queries = lance_files.embeddings_of(dataset.take(rows, columns=["embedding"]))
    found = []
    for query in queries:
        exact = nearest(dataset, query, MEASURED_K, None, {"use_index": False}).ids
        some = nearest(dataset, query, MEASURED_K, None, options(dataset)).ids
        found.append(np.isin(exact, some).mean())
    return round(float(np.mean(found)), 4)


def nearest(
    dataset: "lance.LanceDataset",
    query: np.ndarray,
    n: int,
    where: str | None,
    settings: dict[str, Any],
) -> rescoring.Candidates:
    """Return the n best rows of a query, by float32 products or by the index.

    Args:
        dataset: One version of the store.
        query: (dim,) float32.
        n: Rows to return.
        where: SQL of the rows that may be returned; it is applied before the search.
        settings: Options of Lance.
    """
    table = dataset.to_table(
        columns=["id", "embedding", "_distance"],  # without it, Lance warns of its future
        filter=where,
        prefilter=True,
        nearest={"column": "embedding", "q": query, "k": n, "metric": "dot", **settings},
    )
    return rescoring.Candidates(table["id"].to_numpy(), lance_files.embeddings_of(table))
