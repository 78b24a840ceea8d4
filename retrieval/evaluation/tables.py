"""Evaluations as a table to print."""

from typing import Any

import pandas as pd

SHOWN = ("cmc@1", "cmc@10", "map@k", "map@R", "map")  # of all metrics
WITH_INTERVAL = ("cmc@1", "map@R")  # of these
MACRO = "map@R"  # the one whose mean over classes is shown beside


def table(records: list[dict[str, Any]]) -> str:
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
        if "recall@k vs exact" in record:
            row["recall@k vs exact"] = f"{record['recall@k vs exact']:.4f}"
        rows.append(row)
    return pd.DataFrame(rows).fillna("-").to_string(index=False)
