"""Store results: a folder for each date and machine, in it a csv file for each benchmark.

results/2026-11-26-intel-xeon-2-cores/
    machine.json   processor, cores, memory, versions of the libraries
    runs.csv       start, options, load and commit of each run
    <name>.csv     measurements; the column ``run`` points to runs.csv
"""

import argparse
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks import measured_process
from retrieval.data import provenance

FOLDER = Path(__file__).resolve().parent / "results"
RUNS, MACHINE = "runs.csv", "machine.json"
LIBRARIES = (
    *("numpy", "torch", "torchvision", "faiss-cpu", "pillow"),
    *("opencv-python-headless", "pyvips-binary", "openvino", "onnxruntime", "timm"),
    *("pylance", "pymilvus", "ray"),
)

Row = Mapping[str, object]


class Run:
    """One run of a benchmark, which all its results refer to.

    Args:
        benchmark: Name of the benchmark.
        options: Its command-line options.
        output: Folder of the folders of results.
    """

    def __init__(self, benchmark: str, options: argparse.Namespace, output: Path) -> None:
        now = datetime.now(timezone.utc)
        self.name = f"{now:%Y-%m-%dT%H:%M:%S}"
        self.machine = machine()
        self.folder = folder_of(output, f"{now:%Y-%m-%d}", self.machine)
        self.record = {
            "run": self.name,
            "benchmark": benchmark,
            "options": " ".join(f"{k}={_plain(v)}" for k, v in vars(options).items() if _says(v)),
            "cores": measured_process.cores(),
            "busy_cores": round(os.getloadavg()[0], 1),
            "commit": _commit(),
        }

    def append(self, name: str, rows: Sequence[Row]) -> None:
        """Append rows to ``<name>.csv``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MACHINE).write_text(json.dumps(self.machine, indent=2) + "\n")
        runs = _read(self.folder / RUNS)
        if runs.empty or self.name not in runs["run"].to_numpy():
            _append(self.folder / RUNS, [self.record])
        _append(self.folder / f"{name}.csv", [{"run": self.name, **row} for row in rows])

    def publish(self, name: str, rows: Sequence[Row]) -> None:
        """Append rows to ``<name>.csv`` and print them as a table."""
        self.append(name, rows)
        print(f"\n{markdown(pd.DataFrame(rows))}\n\n{self.folder / name}.csv", flush=True)


def machine() -> dict[str, Any]:
    """Return the processor, its cores, the memory, and the versions that affect measurements."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "machine": provenance.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "versions": versions,
    }


def folder_of(output: Path, date: str, about: Mapping[str, Any]) -> Path:
    """Return the folder of a date and a machine; other versions on that date get a number."""
    words = re.sub(r"\(.*?\)|CPU|Processor|@.*", " ", about["machine"]).lower()
    stem = re.sub(r"[^a-z0-9]+", "-", f"{date} {words} {about['cores']} cores")
    number = 1
    while True:
        folder = output / (stem if number == 1 else f"{stem}-{number}")
        known = folder / MACHINE
        if not known.exists() or json.loads(known.read_text()) == about:
            return folder
        number += 1


def _says(value: object) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return first is not None and not isinstance(first, Path)


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _commit() -> str:
    """Return the short hash of the commit, with a + if there are uncommitted changes."""
    command = ["git", "describe", "--always", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=measured_process.ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def latest(output: Path, name: str) -> pd.DataFrame:
    """Return the rows of the newest run in any ``<name>.csv``; empty if there are none."""
    tables = [pd.read_csv(path) for path in output.glob(f"*/{name}.csv")]
    if not tables:
        return pd.DataFrame()
    table = max(tables, key=lambda table: table["run"].max())
    newest = table[table["run"] == table["run"].max()]
    return newest.dropna(axis="columns", how="all").reset_index(drop=True)


def cores_of(output: Path, run: str) -> int:
    """Return the cores that a run used."""
    runs = pd.concat([pd.read_csv(path) for path in output.glob(f"*/{RUNS}")])
    return int(runs.set_index("run").loc[run, "cores"])


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown with three significant digits; missing values are empty.

    >>> print(markdown(pd.DataFrame({"images_per_s": [1234.5, None], "as": ["a", "b"]})))
    | images/s | as |
    |---|---|
    | 1,234 | a |
    |  | b |
    """
    head = [str(column).replace("_per_", "/").replace("_", " ") for column in table.columns]
    lines = [head, *([_cell(value) for value in row] for row in table.itertuples(index=False))]
    body = ["| " + " | ".join(line) + " |" for line in lines]
    body.insert(1, "|" + "---|" * len(head))
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


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def _append(path: Path, rows: Sequence[Row]) -> None:
    """Append rows; new columns come last and are empty in the older rows."""
    table = pd.DataFrame([{name: _short(value) for name, value in row.items()} for row in rows])
    if path.exists():
        table = pd.concat([pd.read_csv(path, dtype=str, keep_default_na=False), table])
    table.to_csv(path, index=False, lineterminator="\n")


def _short(value: object) -> object:
    """Return a number with five significant digits."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that all benchmarks share."""
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the results")
    parser.add_argument(
        "--threads", type=int, default=measured_process.cores(), help="number of cores to use"
    )
