"""The rule of the column Index: row i of an array is the image with Index i."""

import numpy as np
import pandas as pd

from retrieval.formats import InputError


def by_index(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows in the order of Index, which must run from 0 to n - 1.

    Args:
        table: An index csv with the column Index.
        name: Its file name, for the message.

    >>> by_index(pd.DataFrame({"Path": ["b", "a"], "Index": [1, 0]}), "x.csv")["Path"].tolist()
    ['a', 'b']
    """
    if table.empty:
        raise InputError(f"{name} lists no images")
    ordered = table.sort_values("Index", kind="stable").reset_index(drop=True)
    wrong = np.flatnonzero(ordered["Index"].to_numpy() != np.arange(len(ordered)))
    if len(wrong):
        raise InputError(
            f"{name}: Index must hold each number from 0 to {len(ordered) - 1} once; "
            f"it breaks at {wrong[0]}; make the csv again rather than editing it"
        )
    return ordered


def check_rows(index: np.ndarray, n_row: int, name: str, array_name: str) -> None:
    """Refuse Indexes that have no row in an array of ``n_row`` rows."""
    if len(index) and not 0 <= index.min() <= index.max() < n_row:
        wrong = index.min() if index.min() < 0 else index.max()
        raise InputError(
            f"{name} names the image {wrong}, but {array_name} has {n_row} rows: they were "
            "made from different image lists; make both again from the same csv"
        )
