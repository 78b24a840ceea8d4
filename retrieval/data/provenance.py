"""Where an embeddings file came from: a small json beside it.

Embeddings of two models look alike and cannot be compared, so every ``.npy`` of embeddings has a
``.json`` of the same stem with the hashes of its checkpoint and of its images.
"""

import hashlib
import platform
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data.formats import InputError
from retrieval.data.layout import DATABASE_RECORD

ROW_BLOCK = 8192
PACKAGES = ("numpy", "torch", "faiss-cpu", "faiss-gpu")


def record_name(name: str) -> str:
    """Return the name of the record of the embeddings file ``name``.

    >>> record_name("tdatabase.npy")
    'tdatabase.json'
    """
    return Path(name).with_suffix(".json").as_posix()


def save(data_dir: Path, name: str, record: dict[str, Any]) -> Path:
    """Write the record of the embeddings file ``name``."""
    return DATABASE_RECORD.save(data_dir, record, record_name(name))


def load(data_dir: Path, name: str) -> dict[str, Any] | None:
    """Return the record of an embeddings file, or None where it has none."""
    if not DATABASE_RECORD.at(data_dir, record_name(name)).exists():
        return None
    return DATABASE_RECORD.load(data_dir, record_name(name))


def check_same_model(data_dir: Path, first: str, second: str) -> None:
    """Refuse embeddings of two models or of two transforms.

    Files without a record are taken to be of the same model, and not transformed.
    """
    records = load(data_dir, first), load(data_dir, second)
    models = [record.get("checkpoint_sha256") if record else None for record in records]
    if None not in models and models[0] != models[1]:
        raise InputError(
            f"{first} and {second} were made by different checkpoints; make both with the same "
            f"--save_path: {DATABASE_RECORD.made_by}"
        )
    transforms = [record.get("transform_sha256") if record else None for record in records]
    if transforms[0] != transforms[1]:
        raise InputError(
            f"{first} and {second} were not transformed alike; name the two files that one run of "
            "process_data.transform wrote: --database=database_t.npy --test_matrix=tdatabase_t.npy"
        )


@dataclass
class RowsDigest:
    """A hash of the rows of an array that can be computed in parts, in any order.

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
        """Take in ``rows``, the first of which is row number ``first``."""
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


def sha256_of_rows(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's values, in hexadecimal, read block by block."""
    digest = hashlib.sha256()
    for start in range(0, len(array), ROW_BLOCK):
        digest.update(np.ascontiguousarray(array[start : start + ROW_BLOCK]).data)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return what figures depend on beside their inputs: libraries and the processor.

    What pip does not know of, such as a faiss of conda, is left out.
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
