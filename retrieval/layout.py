"""The data directory: every file in it, the command that writes it, what it holds.

No stage spells a file name. It reads with ``layout.X.load(data_dir)`` and writes with
``layout.X.save(data_dir, value)``; both check the declaration below. Where a command lets people
choose a name (``--mname``, ``--input``, ...), that name is the optional last argument.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrieval import files


class InputError(ValueError):
    """Something the person at the keyboard can put right: a file, a column, a value."""


@dataclass(frozen=True)
class File:
    """One file of the data directory."""

    name: str
    made_by: str  # the command, as it is typed
    holds: str  # one line of the README's table

    def at(self, data_dir: Path, name: str | None = None) -> Path:
        return Path(data_dir) / (name or self.name)

    def found(self, data_dir: Path, name: str | None = None) -> Path:
        """Return the path of the file, which must exist."""
        path = self.at(data_dir, name)
        if not path.is_file():
            raise InputError(f"{path} is missing; make it with: {self.made_by}")
        return path


@dataclass(frozen=True)
class Array(File):
    """A ``.npy`` file, with its axes named in order; a number stands for a fixed length."""

    dtype: str
    axes: tuple[str | int, ...]

    @property
    def shape(self) -> str:
        return f"{self.dtype} ({', '.join(map(str, self.axes))}{',' * (len(self.axes) == 1)})"

    def load(self, data_dir: Path, name: str | None = None) -> np.ndarray:
        """Map the file into memory, read-only."""
        path = self.found(data_dir, name)
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            # Truncated, no .npy file at all, or a pickle, which could run code when read.
            raise InputError(
                f"{path} is no whole .npy file of plain numbers; make it again with: {self.made_by}"
            ) from error
        return self._checked(array, path)

    def save(self, data_dir: Path, array: np.ndarray, name: str | None = None) -> Path:
        path = self.at(data_dir, name)
        return files.write_array(path, self._checked(array, path))

    def _checked(self, array: np.ndarray, path: Path) -> np.ndarray:
        fits = array.dtype == np.dtype(self.dtype) and array.ndim == len(self.axes)
        fixed = zip(array.shape, self.axes, strict=False)
        if not fits or any(isinstance(axis, int) and length != axis for length, axis in fixed):
            raise InputError(
                f"{path} holds {array.dtype} {array.shape}, not {self.shape}; "
                f"it is made by: {self.made_by}"
            )
        return array


@dataclass(frozen=True)
class Table(File):
    """A ``.csv`` file and the columns it must have, with their dtypes; more columns may follow."""

    columns: dict[str, str]

    def load(self, data_dir: Path, name: str | None = None) -> pd.DataFrame:
        path = self.found(data_dir, name)
        try:
            table = pd.read_csv(path, encoding="utf-8")
        except (ValueError, pd.errors.EmptyDataError) as error:
            raise InputError(f"{path} is no csv file: {error}") from error
        return self._checked(table, path)

    def save(self, data_dir: Path, table: pd.DataFrame, name: str | None = None) -> Path:
        path = self.at(data_dir, name)
        text = self._checked(table, path).to_csv(index=False, lineterminator="\n")
        return files.write_text(path, text)

    def _checked(self, table: pd.DataFrame, path: Path) -> pd.DataFrame:
        missing = [column for column in self.columns if column not in table.columns]
        if missing:
            raise InputError(
                f"{path} has no column {', '.join(missing)} "
                f"(it has: {', '.join(map(str, table.columns))}); it is made by: {self.made_by}"
            )
        for column, dtype in self.columns.items():
            if dtype == "int64" and table[column].dtype != np.int64:
                raise InputError(f"{path}: {_first_bad(table[column])}")
        return table


def _first_bad(column: pd.Series) -> str:
    """Say where a column that should hold whole numbers does not."""
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero(numbers.isna() | (numbers % 1 != 0))
    if not len(bad):
        return f"column {column.name} must hold whole numbers"
    row = int(bad[0])
    return f"column {column.name}, line {row + 2}: {column.iloc[row]!r} is not a whole number"


@dataclass(frozen=True)
class Json(File):
    """A ``.json`` file."""

    def load(self, data_dir: Path, name: str | None = None) -> Any:
        path = self.found(data_dir, name)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(
                f"{path} is no JSON ({error}); make it again with: {self.made_by}"
            ) from error

    def save(self, data_dir: Path, value: object, name: str | None = None) -> Path:
        text = json.dumps(value, indent=1, allow_nan=False) + "\n"
        return files.write_text(self.at(data_dir, name), text)


def _stage(name: str, options: str = "") -> str:
    return f"python -m {name} --dpath=...{options}"


_IMAGE_COLUMNS = {"Path": "str", "Class": "int64", "Index": "int64"}
_CAR_COLUMNS = {
    "Path": "str",
    "FileName": "str",
    "View Point": "int64",
    "Year": "str",
    "CarMake": "int64",
    "Class": "int64",
    "Index": "int64",
    "X1": "float64",
    "Y1": "float64",
    "X2": "float64",
    "Y2": "float64",
}
_SPLIT = _stage("process_data.make_train_valid")
_MASKS = _stage("process_data.mask_data")
_SEARCH = _stage("process_data.mips")
_MATRIX = _stage("process_data.image_matrix", " --image_info=car_front.csv")
_ENCODE = "python build_image_db.py --dpath=... --save_path=.../model.ep0"

CAR_FRONT = Table(
    "car_front.csv",
    _stage("compcars.data_info"),
    "web images from the front and front side (viewpoints 1 and 4)",
    _CAR_COLUMNS,
)
CAR_REAR = Table(
    "car_rear.csv",
    _stage("compcars.data_info"),
    "web images from the rear and rear side (viewpoints 2 and 5)",
    _CAR_COLUMNS,
)
IMAGE_INDEX = Table(
    "indexinfo.csv",
    _stage("process_data.data_info"),
    "your own images, one class per folder; ClassName is the folder's name",
    _IMAGE_COLUMNS,
)
CLASS_NAMES = Table(
    "class_names.csv",
    _stage("compcars.data_info"),
    "what people call each Class (process_data.data_info writes it too)",
    {"Class": "int64", "ClassName": "str"},
)
TEST_INDEX = Table(
    "tindexinfo.csv",
    _stage("compcars.test_data_info"),
    "surveillance images; Class is the web-nature model id",
    _IMAGE_COLUMNS,
)
TEST_QUERIES = Array(
    "test.npy",
    _stage("compcars.test_data_info"),
    "Index and Class of the test images",
    "int64",
    ("n_test", 2),
)
IMAGE_MATRIX = Array(
    "imageset.npy",
    _MATRIX,
    "the database's images, RGB; row i is the image with Index i",
    "uint8",
    ("n_image", 3, "side", "side"),
)
TEST_MATRIX = Array(
    "test_image.npy",
    _stage("process_data.image_matrix", " --image_info=tindexinfo.csv --mname=test_image.npy"),
    "the test images, in the same form",
    "uint8",
    ("n_test", 3, "side", "side"),
)
TRAIN = Array(
    "train.npy",
    _SPLIT,
    "training tuples: anchor, positive, negatives (Indexes)",
    "int64",
    ("n_pair", "2 + neg_count"),
)
TRAIN_REVERSED = Array(
    "train2.npy",
    _SPLIT,
    "each pair the other way round, with negatives of its own",
    "int64",
    ("n_pair", "2 + neg_count"),
)
VALID_PAIRS = Array(
    "valid.npy",
    _SPLIT,
    "validation image, training image, 1 same class / 0 different",
    "int64",
    ("2 * n_valid", 3),
)
VALID_QUERIES = Array(
    "valid_for_test.npy",
    _SPLIT,
    "Index and Class of the validation queries",
    "int64",
    ("n_valid", 2),
)
CLASS_IMAGES = Json("model_num.json", _SPLIT, "class -> the Indexes of its images")
MINOR_CLASSES = Json("cutted_class.json", _SPLIT, "the minor classes: fewer than --min_len images")
DATABASE = Array(
    "database.npy",
    _ENCODE,
    "embeddings of imageset.npy, rows of unit L2 norm",
    "float32",
    ("n_image", "dim"),
)
TEST_DATABASE = Array(
    "tdatabase.npy",
    _ENCODE + " --input=test_image.npy --output=tdatabase.npy",
    "embeddings of test_image.npy, rows of unit L2 norm",
    "float32",
    ("n_test", "dim"),
)
DATABASE_RECORD = Json(
    "database.json",
    _ENCODE,
    "where database.npy came from: hashes of the checkpoint and the images (tdatabase.json alike)",
)
TEST_MASKED = Array(
    "test_masked.npy", _MASKS, "test.npy without minor classes", "int64", ("n_query", 2)
)
GALLERY_MASK = Array(
    "mask2.npy",
    _MASKS,
    "1: the image may be retrieved, 0: it is of a minor class",
    "uint8",
    (1, "n_image"),
)
DATABASE_MASKED = Array(
    "database_masked.npy",
    _MASKS,
    "the rows of database.npy that may be retrieved",
    "float32",
    ("n_kept", "dim"),
)
CLASSES_MASKED = Array(
    "dbcm.npy", _MASKS, "Class of each row of database_masked.npy", "int64", ("n_kept",)
)
NEIGHBORS = Array(
    "neighbors.npy",
    _SEARCH,
    "last evaluation: Indexes in the database, best first, -1 where there are fewer than k",
    "int64",
    ("n_query", "k"),
)
SIMILARITIES = Array(
    "similarities.npy",
    _SEARCH,
    "last evaluation: the cosine similarities of the neighbors",
    "float32",
    ("n_query", "k"),
)
METRICS = Json("mAP.json", _SEARCH, "last evaluation: options, metrics, and the definition of each")
