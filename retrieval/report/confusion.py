"""Confusion at rank 1, of makes, or of classes if there are no makes."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.data import image_index, layout
from retrieval.report.retrieval_results import RetrievalResults

if TYPE_CHECKING:
    import pandas as pd

MOST = 30  # rows of a heat map


@dataclass(frozen=True)
class Confusion:
    """Confusion of some groups at rank 1.

    Attributes:
        names: (n,) names of the groups with the most queries; the last may be ``others``.
        counts: (n,) queries of each.
        shares: (n, n) float64: the share of the row's queries whose first result is of the
            column's group; a row sums to 1.
    """

    names: list[str]
    counts: list[int]
    shares: np.ndarray


def load_makes(data_dir: Path, names: dict[int, str]) -> dict[int, str]:
    """Return the name of each class's make; empty if the images' csv has no makes.

    Args:
        data_dir: The data directory, with ``car_front.csv`` or ``indexinfo.csv``.
        names: Class -> name.
    """
    for file in (layout.CAR_FRONT, layout.IMAGE_INDEX):
        if file.at(data_dir).exists():
            return image_index.makes_of_classes(file.load(data_dir), names)
    return {}


def first_results(results: RetrievalResults) -> np.ndarray:
    """Return the class of each query's first result, (n_query,) int64, -1 if there is none."""
    first = results.ids[:, 0]
    return np.where(first >= 0, results.truth.gallery_labels[first], -1)


def confuse(queries: np.ndarray, results: np.ndarray) -> Confusion:
    """Count which group is retrieved first for the queries of each.

    Args:
        queries: (n_query,) names of the queries' groups.
        results: (n_query,) names of the groups of their first results.

    >>> confuse(np.array(["a", "a", "b"]), np.array(["a", "b", "b"])).shares.tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    sizes = Counter(queries.tolist())
    most = [name for name, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:MOST]]
    shown = sorted(most, key=str.casefold)
    others = len(shown)
    place = {name: number for number, name in enumerate(shown)}
    rows = np.array([place.get(name, others) for name in queries.tolist()])
    columns = np.array([place.get(name, others) for name in results.tolist()])
    table = np.zeros((others + 1, others + 1))
    np.add.at(table, (rows, columns), 1)
    if not table[others].any() and not table[:, others].any():
        table = table[:others, :others]
    totals = table.sum(axis=1)
    shares = table / np.maximum(totals, 1)[:, None]
    names = [*shown, "others"][: len(table)]
    return Confusion(names, totals.astype(int).tolist(), shares)


def worst_pairs(results: RetrievalResults, count: int = 20) -> "pd.DataFrame":
    """Return the pairs of classes that are most often confused at rank 1.

    Returns:
        Class, ClassName, Retrieved, RetrievedName, Queries (for which that is so) and Share of
        the queries of Class; the most queries first.
    """
    import pandas as pd

    labels, first = results.truth.query_labels, first_results(results)
    is_wrong = (labels != first) & (first >= 0)
    pairs = pd.DataFrame({"Class": labels[is_wrong], "Retrieved": first[is_wrong]})
    table = pairs.groupby(["Class", "Retrieved"]).size().rename("Queries").reset_index()
    table["Share"] = table["Queries"] / table["Class"].map(pd.Series(labels).value_counts())
    order = ["Queries", "Share", "Class", "Retrieved"]
    table = table.sort_values(order, ascending=[False, False, True, True]).head(count)
    table.insert(1, "ClassName", [results.name(label) for label in table["Class"]])
    table.insert(3, "RetrievedName", [results.name(label) for label in table["Retrieved"]])
    return table.reset_index(drop=True)
