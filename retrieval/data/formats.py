"""The kinds of files that stages exchange, each checked when it is read and when it is written."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data import files, schema
from retrieval.data.command_lines import Maker
from retrieval.data.csv_text import CsvText
from retrieval.data.input_error import InputError as InputError  # for all that read and write files
from retrieval.data.npy_header import map_array
from retrieval.data.spelling import composed

if TYPE_CHECKING:
    import pandas as pd


RESERVED: dict[str, "File"] = {}  # name -> file of the data directory; layout.py fills it


@dataclass(frozen=True)
class File:
    """One file of the data directory."""

    name: str
    maker: Maker
    holds: str  # one line of the table in docs/files.md

    @property
    def stage(self) -> str:
        """The stage that makes the file: the command without its options."""
        return self.maker.stage

    def made_by(self, data_dir: Path, name: str | None = None) -> str:
        """Return the command that makes the file, as it is typed.

        Args:
            data_dir: The data directory.
            name: Of the file, if it is not the usual one.
        """
        name = name or self.name
        # A record is made with its array.
        array = Path(name).with_suffix(".npy").as_posix() if name.endswith(".json") else name
        declared = RESERVED.get(name) or RESERVED.get(array)
        if declared is not None:
            return declared.maker.typed(data_dir)
        return self.maker.typed(data_dir, array if name != self.name else None)

    @property
    def form(self) -> str:
        """What kind of file it is, for the table in docs/files.md."""
        return self.name.rpartition(".")[2]

    def at(self, data_dir: Path, name: str | None = None) -> Path:
        return Path(data_dir) / (name or self.name)

    def target(self, data_dir: Path, name: str | None = None) -> Path:
        """Return the path to write the file to.

        Raises:
            InputError: The name is that of a file that another stage makes, or has another suffix.
        """
        path = self.at(data_dir, name)
        own = os.path.relpath(os.path.realpath(path), os.path.realpath(data_dir))
        other = RESERVED.get(own)
        if other is not None and other.stage != self.stage and own != self.name:
            raise InputError(
                f"{own} is the name of another file, made by: {other.made_by(data_dir)}; "
                "choose another name"
            )
        if path.suffix != Path(self.name).suffix:
            raise InputError(f"{path} must be named *{Path(self.name).suffix}")
        return path

    def found(self, data_dir: Path, name: str | None = None) -> Path:
        """Return the path of the file, which must exist."""
        path = self.at(data_dir, name)
        if not path.is_file():
            raise InputError(f"{path} is missing; make it with: {self.made_by(data_dir, name)}")
        return path


@dataclass(frozen=True)
class Array(File):
    """A ``.npy`` file, with its axes named in order; a number stands for a fixed length."""

    dtype: str
    axes: tuple[str | int, ...]

    @property
    def form(self) -> str:
        return f"{self.dtype} ({', '.join(map(str, self.axes))}{',' * (len(self.axes) == 1)})"

    def load(self, data_dir: Path, name: str | None = None) -> np.ndarray:
        """Map the file into memory, read-only."""
        path = self.found(data_dir, name)
        try:
            array = map_array(path)
        except ValueError as error:
            raise InputError(
                f"{path} is not a complete .npy file of plain numbers ({error}); "
                f"make it again with: {self.made_by(data_dir, name)}"
            ) from error
        return self._checked(array, data_dir, name)

    def save(self, data_dir: Path, array: np.ndarray, name: str | None = None) -> Path:
        path = self.target(data_dir, name)
        return files.write_array(path, self._checked(array, data_dir, name))

    def _checked(self, array: np.ndarray, data_dir: Path, name: str | None) -> np.ndarray:
        fits = array.dtype == np.dtype(self.dtype) and array.ndim == len(self.axes)
        named = dict(zip(self.axes, array.shape, strict=False))
        lengths = [named.get(axis) for axis in self.axes]
        fits &= lengths == list(array.shape)  # axes of one name have one length
        fits &= all(named.get(axis) == axis for axis in self.axes if isinstance(axis, int))
        fits &= 0 not in array.shape[1:]
        if not fits:
            raise InputError(
                f"{self.at(data_dir, name)} holds {array.dtype} {array.shape}, not {self.form}; "
                f"it is made by: {self.made_by(data_dir, name)}"
            )
        return array


NAME_COLUMNS = ("ClassName", "Make", "Model")
TEXT_COLUMNS = frozenset({"Path", "FileName", "Year", *NAME_COLUMNS})  # text in every csv
LARGEST_EXACT = 2**53  # of the whole numbers that a float64 holds


@dataclass(frozen=True)
class Table(File):
    """A ``.csv`` file and the columns it must have, with their dtypes; more columns may follow.

    Attributes:
        columns: Column -> dtype.
        where_known: Columns that only some of these files have.
    """

    columns: dict[str, str]
    where_known: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        more = f"; where known {', '.join(self.where_known)}" if self.where_known else ""
        return ", ".join(self.columns) + more

    def load(self, data_dir: Path, name: str | None = None) -> "pd.DataFrame":
        text = CsvText.of_file(self.found(data_dir, name))
        kinds = self.columns.items()
        table = text.frame(TEXT_COLUMNS | {column for column, kind in kinds if kind == "str"})
        self._check_columns(list(map(str, table.columns)), data_dir, name)
        for column, kind in kinds:
            if kind == "int64" and table[column].dtype != np.int64:
                table[column] = _whole_numbers(table[column], text)
        for column in set(NAME_COLUMNS) & set(table.columns):
            spelled = {name: composed(name) for name in table[column].unique()}
            table[column] = table[column].map(spelled).astype("str")
        return table

    def load_rows(self, data_dir: Path, name: str | None = None) -> list[dict[str, Any]]:
        """Return the declared columns of each line, as text or int, without importing pandas."""
        text = CsvText.of_file(self.found(data_dir, name))
        self._check_columns(text.columns(), data_dir, name)
        rows = []
        for line, cells in text.records():
            row: dict[str, Any] = {column: cells[column] for column in self.columns}
            for column, kind in self.columns.items():
                if kind == "int64":
                    row[column] = whole_number(row[column], f"{text.at(line)}, column {column}")
                elif column in NAME_COLUMNS:
                    row[column] = composed(row[column])
            rows.append(row)
        return rows

    def save(self, data_dir: Path, table: "pd.DataFrame", name: str | None = None) -> Path:
        path = self.target(data_dir, name)
        text = self._checked(table, data_dir, name).to_csv(index=False, lineterminator="\n")
        try:
            return files.write_text(path, text)
        except UnicodeEncodeError as error:
            bad = text[: error.end].rpartition("\n")[2] + text[error.end :].partition("\n")[0]
            raise InputError(
                f"{bad.encode('utf-8', 'backslashreplace').decode()}: the name of this file is "
                "not UTF-8; rename it"
            ) from error

    def _checked(self, table: "pd.DataFrame", data_dir: Path, name: str | None) -> "pd.DataFrame":
        self._check_columns(list(map(str, table.columns)), data_dir, name)
        for column, dtype in self.columns.items():
            if dtype == "int64" and table[column].dtype != np.int64:
                raise InputError(
                    f"{self.at(data_dir, name)}: column {column} must hold whole numbers"
                )
        return table

    def _check_columns(self, columns: list[str], data_dir: Path, name: str | None) -> None:
        missing = [column for column in self.columns if column not in columns]
        if missing:
            raise InputError(
                f"{self.at(data_dir, name)} has no column {', '.join(missing)} "
                f"(it has: {', '.join(columns)}); it is made by: {self.made_by(data_dir, name)}"
            )


def whole_number(text: str, where: str) -> int:
    """Return a cell as a whole number; spreadsheets write 3 as 3.0.

    Args:
        text: The cell.
        where: File, line and column, for the message.
    """
    whole, _, fraction = text.strip().partition(".")
    try:
        if fraction.strip("0"):
            raise ValueError
        return int(whole)
    except ValueError:
        what = f"{text!r} is not a whole number" if text.strip() else "the cell is empty"
        raise InputError(f"{where}: {what}") from None


def _whole_numbers(column: "pd.Series", text: CsvText) -> "pd.Series":
    """Return a column as int64; name the first line where it does not hold a whole number."""
    import pandas as pd

    cells = column.astype("str") if column.dtype == bool else column
    numbers = pd.to_numeric(cells, errors="coerce")
    is_whole = (numbers % 1 == 0) & (numbers.abs() < LARGEST_EXACT)
    if not is_whole.all():
        row = int(np.flatnonzero(~is_whole)[0])
        cell = "" if pd.isna(cells.iloc[row]) else cells.iloc[row]
        what = f"{cell} is not a whole number" if cell != "" else "the cell is empty"
        raise InputError(f"{text.at(text.line(row))}, column {column.name}: {what}")
    return numbers.astype("int64")


@dataclass(frozen=True)
class Json(File):
    """A ``.json`` file, with the form of its value (``schema.fits``)."""

    holds_form: schema.Form

    def load(self, data_dir: Path, name: str | None = None) -> Any:
        path = self.found(data_dir, name)
        try:
            value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path} is not valid JSON ({error}); make it again with: "
                f"{self.made_by(data_dir, name)}"
            ) from error
        if not schema.fits(value, self.holds_form):
            raise InputError(
                f"{path} does not hold what it should; make it again with: "
                f"{self.made_by(data_dir, name)}"
            )
        return value

    def save(self, data_dir: Path, value: object, name: str | None = None) -> Path:
        text = json.dumps(value, indent=1, allow_nan=False) + "\n"
        return files.write_text(self.target(data_dir, name), text)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


@dataclass(frozen=True)
class Folder(File):
    """A folder whose files belong to one library."""

    @property
    def form(self) -> str:
        return "folder"
