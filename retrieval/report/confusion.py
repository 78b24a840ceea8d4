"""Who is retrieved first for whom: makes, or classes where there are no makes."""

from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd

from retrieval.data import layout
from retrieval.report.ranking_view import Ranking

MOST = 30  # rows of a heat map


@dataclass(frozen=True)
class Confusion:
    """How queries of some groups fare at rank 1.

    Attributes:
        names: (n,) of the groups, those with the most queries; the last may be ``others``.
        counts: (n,) queries of each.
        shares: (n, n) float64: of the queries of each row, how many have a first result of the
            column's group; a row sums to 1.
    """

    names: list[str]
    counts: list[int]
    shares: np.ndarray


def load_makes(data_dir: Path, names: dict[int, str]) -> dict[int, str]:
    """Return the name of each class's make; nothing where ``car_front.csv`` is absent.

    Args:
        data_dir: The data directory.
        names: Class -> name. What the names of a make's classes begin with is its name.
    """
    if not layout.CAR_FRONT.at(data_dir).exists():
        return {}
    table = layout.CAR_FRONT.load(data_dir)[["CarMake", "Class"]].drop_duplicates("Class")
    classes = table.groupby("CarMake")["Class"].agg(list)
    of_make = {
        int(make): common_name([names.get(label, "") for label in labels])
        for make, labels in classes.items()
    }
    taken = Counter(of_make.values())
    of_make = {
        make: name if name and taken[name] == 1 else f"{name or 'make'} {make}"
        for make, name in of_make.items()
    }
    return {int(label): of_make[make] for make, label in table.to_numpy().tolist()}


def common_name(names: list[str]) -> str:
    """Return the words that all names begin with; of a single name, the first word.

    >>> common_name(["Alfa Romeo Giulia", "Alfa Romeo Mito"]), common_name(["Audi Q5"])
    ('Alfa Romeo', 'Audi')
    """
    columns = zip(*(name.split() for name in names), strict=False)
    common = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, columns)]
    return " ".join(common[:1] if len(names) == 1 else common)


def first_results(ranking: Ranking) -> np.ndarray:
    """Return the class of each query's first result, (n_query,) int64, -1 where there is none."""
    first = ranking.ids[:, 0]
    return np.where(first >= 0, ranking.task.gallery_labels[first], -1)


def confuse(queries: np.ndarray, results: np.ndarray) -> Confusion:
    """Return who is retrieved first for whom.

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


def worst_pairs(ranking: Ranking, count: int = 20) -> pd.DataFrame:
    """Return the classes that are most often retrieved first for another.

    Returns:
        Class, ClassName, Retrieved, RetrievedName, Queries (for which that is so) and Share of
        the queries of Class; the most queries first.
    """
    labels, first = ranking.task.query_labels, first_results(ranking)
    is_wrong = (labels != first) & (first >= 0)
    pairs = pd.DataFrame({"Class": labels[is_wrong], "Retrieved": first[is_wrong]})
    table = pairs.groupby(["Class", "Retrieved"]).size().rename("Queries").reset_index()
    table["Share"] = table["Queries"] / table["Class"].map(pd.Series(labels).value_counts())
    order = ["Queries", "Share", "Class", "Retrieved"]
    table = table.sort_values(order, ascending=[False, False, True, True]).head(count)
    table.insert(1, "ClassName", [ranking.name(label) for label in table["Class"]])
    table.insert(3, "RetrievedName", [ranking.name(label) for label in table["Retrieved"]])
    return table.reset_index(drop=True)
