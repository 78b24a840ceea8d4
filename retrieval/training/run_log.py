"""The metrics of every epoch of a training run: ``<save_path>/log.csv``, and TensorBoard."""

import math
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from retrieval.data import files
from retrieval.data.formats import InputError

NAME = "log.csv"
SELECTION = "new map@R"  # what the best epoch is chosen by, where classes are held out


class RunLog:
    """One row for each epoch, written anew, whole, after each.

    Rows from ``first_epoch`` on, of an earlier run that is trained again from there, are dropped.
    """

    def __init__(self, save_path: Path, first_epoch: int, tensorboard: bool) -> None:
        self.path = save_path / NAME
        before = pd.DataFrame({"epoch": []})
        if first_epoch > 0 and self.path.is_file():
            before = _read(self.path)
        self.rows: list[dict[str, Any]] = [
            {str(name): value for name, value in row.items() if not _is_missing(value)}
            for row in before[before["epoch"] < first_epoch].to_dict("records")
        ]
        self.board = _board(save_path, first_epoch) if tensorboard else None

    def add(self, epoch: int, metrics: dict[str, float]) -> None:
        """Append the row of an epoch."""
        self.rows.append({"epoch": epoch, **metrics})
        text = pd.DataFrame(self.rows).astype({"epoch": "int64"}).to_csv(index=False)
        files.write_text(self.path, text)
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(name.replace(" ", "/"), value, epoch)
            self.board.flush()

    @property
    def best_epoch(self) -> int | None:
        """The first epoch that none is better than on held-out classes; None without any."""
        known = [row for row in self.rows if SELECTION in row]
        best = max(known, key=lambda row: row[SELECTION], default=None)
        return None if best is None else int(best["epoch"])

    @property
    def is_best(self) -> bool:
        """Whether the last epoch is the best one on held-out classes."""
        return bool(self.rows) and self.best_epoch == self.rows[-1]["epoch"]


def _is_missing(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (ValueError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} is no csv file; move it away") from error
    if "epoch" not in table.columns:
        raise InputError(f"{path} has no column epoch; move it away")
    return table


def _board(save_path: Path, first_epoch: int) -> Any:
    try:
        module = import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise InputError(
            "--tensorboard needs tensorboard; install it with: pip install tensorboard"
        ) from error
    return module.SummaryWriter(str(save_path / "tensorboard"), purge_step=first_epoch)
