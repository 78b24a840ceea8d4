"""The origin of a file, in a small json beside it.

Embeddings of two models look alike and cannot be compared, so every ``.npy`` of embeddings has a
``.json`` of the same stem with the hashes of its checkpoint and of its images. An image matrix has
one with the hash of its list of images. Each names the content that it describes: a record beside
another file, as a killed command leaves it, is refused.
"""

import hashlib
import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data.formats import Array, InputError
from retrieval.data.layout import DATABASE, DATABASE_RECORD

if TYPE_CHECKING:
    import pandas as pd

FINGERPRINT_ROWS = 64
WHOLE_BYTES = 1 << 26
HEADER_BYTES = 1 << 16  # of an LOPQ index
# What a photo must share with the images of a matrix, and where these images are.
PREPARATION = ("index", "image_root_path", "image_resolution", "filter_type", "crop")
PACKAGES = ("numpy", "torch", "faiss-cpu", "faiss-gpu")


def record_name(name: str) -> str:
    """Return the name of the record of a file: of an array, or of a csv that lists images.

    >>> record_name("tdatabase.npy"), record_name("car_front.csv")
    ('tdatabase.json', 'car_front.csv.json')
    """
    if name.endswith(".csv"):  # beside an array of the same stem
        return f"{name}.json"
    return Path(name).with_suffix(".json").as_posix()


def record_target(data_dir: Path, name: str) -> Path:
    """Return where the record of the array ``name`` goes.

    Raises:
        InputError: Another stage's file has that name.
    """
    return DATABASE_RECORD.target(data_dir, record_name(name))


def save_record(data_dir: Path, name: str, record: dict[str, Any], file: Array = DATABASE) -> Path:
    """Write the record of an array that was just written.

    Args:
        data_dir: The data directory.
        name: Name of the array's file.
        record: Its origin.
        file: What the array is.
    """
    content = {"content": fingerprint(file.load(data_dir, name))}
    return DATABASE_RECORD.save(data_dir, record | content, record_name(name))


def load_record(data_dir: Path, name: str, file: Array = DATABASE) -> dict[str, Any] | None:
    """Return the record of an array, None if it has none.

    Raises:
        InputError: It describes another content.
    """
    path = DATABASE_RECORD.at(data_dir, record_name(name))
    if not path.exists():
        return None
    record = DATABASE_RECORD.load(data_dir, record_name(name))
    if not isinstance(record, dict) or record.get("content") != fingerprint(
        file.load(data_dir, name)
    ):
        raise InputError(
            f"{path.name} does not describe this {name}: a command was stopped in between, or one "
            f"of the two was replaced; make both again with: {file.made_by(data_dir, name)}"
        )
    return record


def preparation_of(matrix_record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return how the images of a matrix were prepared, for the record of their embeddings.

    None if the matrix has no record, or one that does not say it.
    """
    if matrix_record is None or not set(PREPARATION) <= set(matrix_record):
        return None
    return {name: matrix_record[name] for name in PREPARATION}


def fingerprint(array: np.ndarray) -> str:
    """Return a hash of an array: of its form and its rows, in hexadecimal.

    Of an array above ``WHOLE_BYTES``, some rows, evenly spaced: cheap for any size. It then tells
    arrays apart that were made from other images or by other models, not a damage in a few rows.
    """
    digest = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
    if array.nbytes > WHOLE_BYTES:
        array = array[np.unique(np.linspace(0, len(array) - 1, FINGERPRINT_ROWS).astype(int))]
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check_members(
    record: dict[str, Any], record_path: Path, made_by: str, arrays: dict[str, np.ndarray]
) -> None:
    """Refuse arrays that are not those that a record was written with.

    Args:
        record: Its ``files`` has the ``fingerprint`` of each array by its name.
        record_path: Its file, for the message.
        made_by: The command that makes the files.
        arrays: Name -> what the file of that name holds now.

    Raises:
        InputError: Names the first array that is another.
    """
    for name, array in arrays.items():
        if record["files"].get(name) != fingerprint(array):
            raise InputError(
                f"{name} is not of the run that wrote {record_path}: that run was stopped in "
                f"between, or another followed; run again: {made_by}"
            )


def index_hash(table: "pd.DataFrame") -> str:
    """Return the hash of a list of images: its paths, in the order of Index, in hexadecimal."""
    paths = table.sort_values("Index", kind="stable")["Path"].astype(str)
    return hashlib.sha256("\n".join(paths).encode("utf-8", "surrogateescape")).hexdigest()


def check_same_model(data_dir: Path, records: dict[str, dict[str, Any]]) -> None:
    """Refuse embeddings of two models or of two transforms.

    Files without a record count as made by the same model and not transformed.

    Args:
        data_dir: The data directory.
        records: File name -> record, empty if it has none, of two files.
    """
    names = " and ".join(records)
    models = [record.get("checkpoint_sha256") for record in records.values()]
    if None not in models and len(set(models)) > 1:
        raise InputError(
            f"{names} were made by different checkpoints; make both with the same --save_path: "
            + ", then ".join(DATABASE.made_by(data_dir, name) for name in records)
        )
    if len({record.get("transform_sha256") for record in records.values()}) > 1:
        raise InputError(
            f"{names} were not transformed alike; name the two files that one run of "
            "process_data.transform wrote: --database=database_t.npy --test_matrix=tdatabase_t.npy"
        )


@dataclass(frozen=True)
class InputFiles:
    """The files that an evaluation reads.

    Attributes:
        data_dir: The data directory.
        paths: The files, which may lie outside of it.
    """

    data_dir: Path
    paths: tuple[Path, ...]

    @cached_property
    def sha256(self) -> dict[str, str]:
        """The SHA-256 of each file by its name, hashed once and when first asked for."""
        return {input_name(self.data_dir, path): sha256(path) for path in dict.fromkeys(self.paths)}


def input_name(data_dir: Path, path: Path) -> str:
    """Return a file's path relative to the data directory, or as it is if it lies outside.

    >>> input_name(Path("ir"), Path("ir/old/test.npy")), input_name(Path("ir"), Path("/x/test.npy"))
    ('old/test.npy', '/x/test.npy')
    """
    return (path.relative_to(data_dir) if path.is_relative_to(data_dir) else path).as_posix()


@dataclass
class RowsDigest:
    """A hash of the rows of an array, computed in parts, in any order.

    The sum, modulo 2 ** 256, of the SHA-256 of each row's number and bytes (AdHash of Bellare and
    Micciancio, A New Paradigm for Collision-Free Hashing, EUROCRYPT 1997): against accidents, not
    against somebody who looks for a collision.

    >>> rows = np.arange(6, dtype=np.uint8).reshape(3, 2)
    >>> whole, first, rest = RowsDigest(), RowsDigest(), RowsDigest()
    >>> whole.add(0, rows); first.add(0, rows[:1]); rest.add(1, rows[1:])
    >>> whole == RowsDigest.of_parts([first.hexdigest(), rest.hexdigest()])
    True
    """

    value: int = 0

    @classmethod
    def of_parts(cls, parts: Iterable[object]) -> "RowsDigest":
        """Return the hash of all rows, from the ``hexdigest`` of each part."""
        return cls(sum(int(str(part), 16) for part in parts) % 2**256)

    def add(self, first: int, rows: np.ndarray) -> None:
        """Take in ``rows``, which begin at row number ``first``."""
        for number, row in enumerate(np.ascontiguousarray(rows), first):
            digest = hashlib.sha256(number.to_bytes(8, "little"))
            digest.update(row.data)
            self.value = (self.value + int.from_bytes(digest.digest(), "little")) % 2**256

    def hexdigest(self) -> str:
        """Return the hash in hexadecimal, 64 digits."""
        return f"{self.value:064x}"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_header(path: Path) -> str:
    """Return the SHA-256 of an LOPQ index's header, which has checksums of all that follows."""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(HEADER_BYTES)).hexdigest()


def sha256_of_array(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's values, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the libraries, and the processor: figures depend on them too.

    A package that pip does not know, such as a faiss of conda, is left out.
    """
    packages = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {"python": platform.python_version(), **packages, "processor": processor()}


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
