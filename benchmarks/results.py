"""Store the results: one row per measurement, one row per run, tables in the README.

Each benchmark appends to ``results/<name>.csv``; its column ``run`` points to ``results/runs.csv``,
which has the machine, the versions and the options. ``publish`` also writes the newest run between
``<!-- name -->`` and ``<!-- end -->`` in the README next to the folder. Run as a module, it
rewrites all these blocks:

    python -m benchmarks.results
"""

import argparse
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks import harness, processes
from retrieval.data import provenance

FOLDER = Path(__file__).resolve().parent / "results"
RUNS = "runs.csv"

Row = Mapping[str, object]


class Run:
    """One run of a benchmark, which all its results refer to.

    Args:
        benchmark: Name of the benchmark.
        options: Its command-line options.
        folder: Folder of the csv files.
    """

    def __init__(self, benchmark: str, options: argparse.Namespace, folder: Path) -> None:
        now = datetime.now(timezone.utc)
        self.name = f"{now:%Y-%m-%dT%H:%M:%S}"
        self.folder = folder
        self.record = {
            "run": self.name,
            "benchmark": benchmark,
            "options": " ".join(f"{k}={_plain(v)}" for k, v in vars(options).items() if _says(v)),
            "machine": provenance.processor(),
            "cores": processes.cores(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9),
            "busy_cores": round(os.getloadavg()[0], 1),
            "versions": harness.versions(),
            "commit": _commit(),
        }

    def append(self, name: str, rows: Sequence[Row]) -> None:
        """Append rows to ``<name>.csv``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        runs = _read(self.folder / RUNS)
        if runs.empty or self.name not in runs["run"].to_numpy():
            _append(self.folder / RUNS, [self.record])
        _append(self.folder / f"{name}.csv", [{"run": self.name, **row} for row in rows])

    def publish(self, name: str, rows: Sequence[Row]) -> None:
        """Append rows to ``<name>.csv``, print them as a table and write it to the README."""
        self.append(name, rows)
        table = latest_table(self.folder, name)
        print(f"\n{table}\n", flush=True)
        rewrite(self.folder.parent / "README.md", name, table)


def _says(value: object) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return first is not None and not isinstance(first, Path)


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _commit() -> str:
    """Return the short hash of the commit, with a + if there are uncommitted changes."""
    command = ["git", "describe", "--always", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=processes.ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def latest(folder: Path, name: str) -> pd.DataFrame:
    """Return the rows of the newest run in ``<name>.csv``; empty if there are none."""
    table = _read(folder / f"{name}.csv")
    if table.empty:
        return table
    newest = table[table["run"] == table["run"].max()]
    return newest.dropna(axis="columns", how="all").reset_index(drop=True)


def latest_table(folder: Path, name: str) -> str:
    """Return the newest run of ``<name>.csv`` as a Markdown table, with a line on the machine."""
    table = latest(folder, name)
    run = table["run"].iloc[0]
    runs = _read(folder / RUNS)
    about = runs[runs["run"] == run].iloc[0]
    line = (
        f"{run[:10]}: {about['machine']}, {about['cores']} cores, {about['memory_gb']} GB "
        f"({about['busy_cores']} busy before); {about['versions']}; options: {about['options']}"
    )
    return f"{markdown(table.drop(columns='run'))}\n\n{line}"


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown with three significant digits; missing values are empty.

    >>> print(markdown(pd.DataFrame({"images_per_s": [1234.5, None], "as": ["a", "b"]})))
    | images/s | as |
    |---|---|
    | 1,234 | a |
    |  | b |
    """
    head = [str(column).replace("_per_", "/").replace("_", " ") for column in table.columns]
    lines = [head, ["---"] * len(head)]
    lines += [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    body = ["| " + " | ".join(line) + " |" for line in lines]
    body[1] = "|" + "---|" * len(head)
    return "\n".join(body)


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, str):
        return value
    number = float(value)
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}"
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def rewrite(readme: Path, name: str, text: str) -> bool:
    """Write ``text`` between ``<!-- name -->`` and ``<!-- end -->``; return whether they exist."""
    if not readme.exists():
        return False
    before = readme.read_text(encoding="utf-8")
    block = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    after, count = block.subn(lambda match: f"{match[1]}{text}\n{match[2]}", before)
    if count:
        readme.write_text(after, encoding="utf-8")
    return bool(count)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def _append(path: Path, rows: Sequence[Row]) -> None:
    """Append rows; new columns come last and are empty in the older rows."""
    table = pd.DataFrame(rows)
    if path.exists():
        table = pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False), table])
    table.to_csv(path, index=False, float_format="%.5g", lineterminator="\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that all benchmarks share."""
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the csv files")
    parser.add_argument(
        "--threads", type=int, default=processes.cores(), help="number of cores to use"
    )


def main() -> None:
    for path in sorted(FOLDER.glob("*.csv")):
        if path.name != RUNS and "run" in pd.read_csv(path, nrows=0).columns:
            rewrite(FOLDER.parent / "README.md", path.stem, latest_table(FOLDER, path.stem))


if __name__ == "__main__":
    main()
