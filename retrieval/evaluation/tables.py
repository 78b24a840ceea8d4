"""Evaluations as tables to print."""

from collections.abc import Sequence
from typing import Any

from retrieval.evaluation.metrics import RECALL

SHOWN = ("cmc@1", "cmc@10", "map@k", "map@R", "map")  # the main metrics
WITH_INTERVAL = ("cmc@1", "map@R")  # those whose interval is shown
MACRO = "map@R"  # the one whose mean over classes is shown


def evaluation_table(records: list[dict[str, Any]]) -> str:
    """Return evaluations as a table, one line each, the main metrics with their intervals."""
    columns = ["search", "queries", "n_query", "n_gallery", "k"]
    rows = []
    for record in records:
        row = {name: record[name] for name in columns}
        for name in SHOWN:
            row[name] = f"{record[name]:.4f}" if name in record else "-"
            if name in WITH_INTERVAL and name in record.get("intervals", {}):
                low, high = record["intervals"][name]
                row[name] += f" [{low:.3f}, {high:.3f}]"
        if MACRO in record.get("macro", {}):
            row[f"macro {MACRO}"] = f"{record['macro'][MACRO]:.4f}"
        if RECALL in record:
            row[RECALL] = f"{record[RECALL]:.4f}"
        if "cameras" in record.get("trained_on", ""):
            row["trained on"] = record["trained_on"]
        rows.append(row)
    return text_table(rows)


def text_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as text with aligned columns, ``-`` where a row has no value.

    >>> print(text_table([{"name": "a", "k": 5}, {"name": "long"}]))
    name k
       a 5
    long -
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([str(row.get(name, "-")) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        " ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
