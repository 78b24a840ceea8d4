"""Shards of an array: one file each, joined when all are complete.

``database.npy`` in seven shards is the folder ``database.npy.shards`` with ``0-of-7.npy``, ...,
and a manifest of each (``0-of-7.json``): its rows, what it was made from, and a hash of its
content. Each file is whole or absent, and the manifest comes after its array, so any number of
programs on any machines with a shared disk may make shards, be killed, and be started again.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from retrieval.data import files, schema
from retrieval.data.formats import InputError
from retrieval.data.npy_header import map_array
from retrieval.data.provenance import fingerprint

log = logging.getLogger(__name__)

Engine = Literal["local", "ray"]

MOST_SHARDS = 65_536
COPIED_ROWS = 65_536  # rows that are copied at once
PLACE = "checkpoint"  # of a record: where a file is, which changes no row; its hash counts
FORM = {"first": int, "last": int, "made_from": str, "content": str, "images": str}


@dataclass(frozen=True)
class Shards:
    """The parts of one array.

    Attributes:
        path: The whole array's file.
        shape: Shape of the whole array.
        dtype: Its dtype.
        count: Number of shards.
        record: The record of the whole array, as far as it is known before: everything that the
            rows depend on, as JSON values.
        multiple: Shards begin at multiples of this row number.
        is_done: Whether the whole array is there already, made from the same things.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str
    count: int
    record: dict[str, Any]
    multiple: int = 1
    is_done: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the shards until they are merged."""
        return self.path.with_name(f"{self.path.name}.shards")

    @property
    def origin(self) -> str:
        """The hash of all that the rows depend on, in hexadecimal."""
        made_from = {name: value for name, value in self.record.items() if name != PLACE}
        text = json.dumps({**made_from, "shape": self.shape}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def rows(self, number: int) -> range:
        """Return the rows of a shard; some are empty if there are too few."""
        return part_of(self.shape[0], number, self.count, self.multiple)

    def make_one(self, write: Callable[[files.RowWriter, range], str], number: int) -> None:
        """Make one shard, whether it is there or not.

        Args:
            write: Writes rows, the first of them to row 0 of the writer; returns the
                ``RowsDigest`` of the images that they show, empty if there is none.
            number: The shard.
        """
        self._manifest_path(number).unlink(missing_ok=True)
        rows = self.rows(number)
        shape = (len(rows), *self.shape[1:])
        with files.row_writer(self._array_path(number), shape, self.dtype) as writer:
            images = write(writer, rows)
        self._finish(number, images)

    def missing(self, only: int | None = None) -> list[int]:
        """Return the shards that are to be made: not there, damaged, or made from other things.

        Args:
            only: Look at this one alone; None: at all.
        """
        if self.is_done:
            return []
        numbers = range(self.count) if only is None else [only]
        return [number for number in numbers if self._manifest(number) is None]

    def lacks_some(self) -> bool:
        """Return whether shards are missing, and say how many are there."""
        n_lacking = len(self.missing())
        if n_lacking:
            there = self.count - n_lacking
            log.info("%s: %d of %d shards are there", self.folder, there, self.count)
        return n_lacking > 0

    def _finish(self, number: int, images: str) -> None:
        """Write the manifest of a shard."""
        rows = self.rows(number)
        manifest = {
            "first": rows.start,
            "last": rows.stop,
            "made_from": self.origin,
            "content": fingerprint(map_array(self._array_path(number))),
            "images": images,
        }
        files.write_text(self._manifest_path(number), json.dumps(manifest) + "\n")

    def join(self) -> list[str]:
        """Write the whole array from its shards; return what ``write`` returned for each.

        The shards stay until `remove`: the record of the whole comes first.

        Raises:
            InputError: A shard is missing or of another run.
        """
        manifests = [self._manifest(number) for number in range(self.count)]
        lacking = [number for number, found in enumerate(manifests) if found is None]
        if lacking:
            raise InputError(
                f"{self.folder} lacks the shards {', '.join(map(str, lacking))} of {self.count}; "
                "make them with --shard, or all that are missing without it"
            )
        with (
            files.row_writer(self.path, self.shape, self.dtype) as whole,
            tqdm(total=self.shape[0], desc="join", unit="row", disable=None, leave=False) as bar,
        ):
            for number in range(self.count):
                part, first = map_array(self._array_path(number)), self.rows(number).start
                for start in range(0, len(part), COPIED_ROWS):
                    block = np.ascontiguousarray(part[start : start + COPIED_ROWS])
                    whole.write(first + start, block)
                    bar.update(len(block))
        return [found["images"] for found in manifests if found is not None]

    def remove(self) -> None:
        """Remove the shards; their rows are in the whole array."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _manifest(self, number: int) -> dict[str, Any] | None:
        """Return the manifest of a shard that can be joined; None, with a line, if it cannot."""
        path, rows = self._manifest_path(number), self.rows(number)
        if not path.is_file() or not self._array_path(number).is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            array = map_array(self._array_path(number))
        except (ValueError, RecursionError):
            log.warning("%s is damaged: it is made again", path)
            return None
        if not schema.fits(found, FORM) or found["made_from"] != self.origin:
            log.warning("%s was made from other files or options: it is made again", path)
            return None
        expected = (len(rows), *self.shape[1:]), np.dtype(self.dtype)
        is_same = (array.shape, array.dtype) == expected and fingerprint(array) == found["content"]
        if not is_same or (found["first"], found["last"]) != (rows.start, rows.stop):
            log.warning("%s does not describe its array: it is made again", path)
            return None
        return dict(found)

    def _array_path(self, number: int) -> Path:
        return self.folder / f"{number}-of-{self.count}.npy"

    def _manifest_path(self, number: int) -> Path:
        return self.folder / f"{number}-of-{self.count}.json"


def check_shards(shards: int, shard: int | None, engine: Engine = "local") -> None:
    """Refuse numbers of shards that cannot be."""
    if engine == "ray" and (shards == 1 or shard is not None):
        raise InputError("--engine=ray makes all shards: it takes --shards=2 or more, no --shard")
    if not 1 <= shards <= MOST_SHARDS:
        raise InputError(f"--shards must be from 1 to {MOST_SHARDS}; got {shards}")
    if shard is not None and not 0 <= shard < shards:
        raise InputError(f"--shard must be from 0 to {shards - 1}, below --shards; got {shard}")


def part_of(n: int, number: int, count: int, multiple: int = 1) -> range:
    """Return one of ``count`` contiguous parts of ``range(n)``, in the order of their numbers.

    Args:
        n: Rows that are divided.
        number: The part, from 0.
        count: Parts.
        multiple: Parts begin at multiples of it; some are empty if there are too few.

    >>> [part_of(10, number, 3, 4) for number in range(3)]
    [range(0, 4), range(4, 8), range(8, 10)]
    """
    n_block = -(-n // multiple)
    first, last = (n_block * edge // count * multiple for edge in (number, number + 1))
    return range(min(first, n), min(last, n))
