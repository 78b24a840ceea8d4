"""The metrics of every epoch of a run: ``<save_path>/log.csv``, and TensorBoard."""

import csv
import io
import math
from importlib import import_module
from pathlib import Path
from typing import Any

from retrieval.data import files
from retrieval.data.formats import InputError

NAME = "log.csv"
SELECTION = "new map@R"  # chooses the best epoch if classes are held out


class RunLog:
    """One row per epoch; the file is written whole after each.

    Rows from ``first_epoch`` on belong to epochs that are trained again, and are dropped.
    """

    def __init__(self, save_path: Path, first_epoch: int, tensorboard: bool) -> None:
        self.path = save_path / NAME
        self.rows: list[dict[str, Any]] = []
        if first_epoch > 0 and self.path.is_file():
            self.rows = [row for row in _read(self.path) if row["epoch"] < first_epoch]
        self.board = _board(save_path, first_epoch) if tensorboard else None

    def add(self, epoch: int, metrics: dict[str, float]) -> None:
        """Append the row of an epoch."""
        self.rows.append({"epoch": epoch, **metrics})
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({name: value for name, value in row.items() if not _is_nan(value)})
        files.write_text(self.path, text.getvalue())
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(name.replace(" ", "/"), value, epoch)
            self.board.flush()

    @property
    def best_epoch(self) -> int | None:
        """The first of the best epochs on held-out classes; None without such classes."""
        known = [row for row in self.rows if SELECTION in row]
        best = max(known, key=lambda row: row[SELECTION], default=None)
        return None if best is None else int(best["epoch"])

    @property
    def is_best(self) -> bool:
        """Whether the last epoch is the best one on held-out classes."""
        return bool(self.rows) and self.best_epoch == self.rows[-1]["epoch"]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        if "epoch" not in (reader.fieldnames or ()):
            raise InputError(f"{path} has no column epoch; move it away")
        rows = [{name: float(text) for name, text in row.items() if text} for row in reader]
        return [row | {"epoch": int(row["epoch"])} for row in rows]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a csv file; move it away") from error


def _board(save_path: Path, first_epoch: int) -> Any:
    try:
        module = import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise InputError(
            "--tensorboard needs tensorboard; install it with: pip install tensorboard"
        ) from error
    return module.SummaryWriter(str(save_path / "tensorboard"), purge_step=first_epoch)
