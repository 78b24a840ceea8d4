"""The codes of a database made in shards, and joined to ``lopq.index``.

``lopq.index.shards`` has the fitted model, the record of what it was fitted on, and the codes of
each shard, a whole file or none. Each says what it was made from, so a run that was stopped goes
on with what is missing, and codes of two models or two databases are never joined.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data import files, layout
from retrieval.data.formats import InputError
from retrieval.data.provenance import sha256
from retrieval.data.shards import part_of

if TYPE_CHECKING:
    from lopq import LOPQModel
    from lopq.index.inverted_lists import InvertedLists
    from lopq.index.refine import Keep

log = logging.getLogger(__name__)

MODEL, FITTED_ON = "model.lopq", "model.json"


@contextmanager
def lopq_errors() -> Iterator[None]:
    """Turn errors of LOPQ, such as a damaged index, into `InputError`."""
    from lopq import LOPQError

    try:
        yield
    except LOPQError as error:
        raise InputError(str(error)) from error


def fit_model(database: np.ndarray, left_out: np.ndarray, fitting: dict[str, Any]) -> "LOPQModel":
    """Fit a model on a sample of the database without some rows."""
    from lopq import LOPQModel
    from lopq.train.fit import training_rows

    started = time.perf_counter()
    model = LOPQModel(**fitting)
    rows = np.setdiff1d(np.arange(len(database)), left_out)
    sample = training_rows(len(rows), model.V, model.seed)  # read no more rows than these
    model.fit(database[rows if sample is None else rows[sample]], train_size=None)
    log.info("fitted %d cells in %.2f s", model.V, time.perf_counter() - started)
    return model


def fitted_model(
    index: Path,
    database: np.ndarray,
    left_out: np.ndarray,
    fitting: dict[str, Any],
    fitted_on: dict[str, Any],
) -> Path:
    """Return the file of the model of an index in shards, fitted now or by a run that was stopped.

    Args:
        index: The file of the whole index.
        database: (n_image, dim) float32.
        left_out: Rows not to train on.
        fitting: Options of ``LOPQModel``.
        fitted_on: All that the model depends on, as JSON values.
    """
    from lopq import LOPQError, LOPQModel

    path, record = _folder(index) / MODEL, _folder(index) / FITTED_ON
    text = json.dumps(fitted_on, sort_keys=True) + "\n"
    if record.is_file() and record.read_text(encoding="utf-8", errors="replace") == text:
        try:
            LOPQModel.load(path)
        except LOPQError as error:
            log.warning("%s: it is fitted again", error)
        else:
            log.info("%s was fitted before the last run was stopped; used again", path)
            return path
    record.unlink(missing_ok=True)
    model = fit_model(database, left_out, fitting)
    with files.whole(path) as part:
        model.save(part)
    files.write_text(record, text)
    return path


@dataclass(frozen=True)
class CodeJob:
    """The codes of a database, made in shards.

    Attributes:
        database: The file of the embeddings.
        target: The file of the whole index.
        shards: Number of parts.
        model_path: The file of the fitted model.
        origin: A hash of model and database, in hexadecimal.
        keep: Whether and how the vectors are kept (`lopq.index.refine`).
    """

    database: Path
    target: Path
    shards: int
    model_path: Path
    origin: str
    keep: "Keep" = "none"

    uses_gpu = False

    @classmethod
    def of(
        cls,
        database: Path,
        target: Path,
        shards: int,
        model_path: Path,
        database_sha256: str,
        keep: "Keep" = "none",
    ) -> "CodeJob":
        """Return the job for a database and a model as they are now."""
        both = database_sha256 + sha256(model_path)
        origin = hashlib.sha256(both.encode()).hexdigest()
        paths = (database.absolute(), target.absolute())
        return cls(*paths, shards, model_path.absolute(), origin, keep)

    @cached_property
    def model(self) -> "LOPQModel":
        """The fitted model."""
        from lopq import LOPQModel

        return LOPQModel.load(self.model_path)

    @cached_property
    def vectors(self) -> np.ndarray:
        """(n_image, dim) float32, memory-mapped."""
        return layout.DATABASE.load(self.database.parent, self.database.name)

    @property
    def plan(self) -> "CodeJob":
        """The job itself, which says what is missing."""
        return self

    @property
    def count(self) -> int:
        """Number of parts."""
        return self.shards

    def on_node(self, count: int) -> "CodeJob":
        """Return the job: Ray sets the threads of what encodes."""
        return self

    def rows(self, number: int) -> range:
        """Return the rows of a shard, in blocks as those of a run without shards."""
        from lopq.parallel import BLOCK_ROWS

        return part_of(len(self.vectors), number, self.shards, BLOCK_ROWS)

    def missing(self, only: int | None = None) -> list[int]:
        """Return the shards that are to be made: not there, damaged, or of another origin."""
        numbers = range(self.shards) if only is None else [only]
        return [number for number in numbers if self._part(number) is None]

    def make(self, number: int) -> None:
        """Encode one shard."""
        from lopq import save_part

        rows = self.rows(number)
        data = self.vectors[rows.start : rows.stop]
        with lopq_errors(), files.whole(self.path_of(number)) as part:
            save_part(part, self.model, data, rows.start, self.origin, self.keep)

    def join(self, path: Path) -> None:
        """Write the index of all shards."""
        from lopq import merge_parts

        parts = [self._part(number) for number in range(self.shards)]
        there = [part for part in parts if part is not None]
        if len(there) < self.shards:
            raise InputError(f"shards of {self.target} were removed meanwhile; run again")
        merge_parts(path, self.model, there, self.keep)

    def path_of(self, number: int) -> Path:
        """Return the file of a shard."""
        return _folder(self.target) / f"{number}-of-{self.shards}.codes"

    def _part(self, number: int) -> "InvertedLists | None":
        """Return a shard that can be joined; None, with a line if it is there, if it cannot."""
        from lopq import LOPQError, read_part

        path = self.path_of(number)
        if not path.exists():
            return None
        try:
            return read_part(path, self.model, self.rows(number), self.origin, self.keep)
        except LOPQError as error:
            log.warning("%s", error)
            return None


def remove(index: Path) -> None:
    """Remove the shards of an index; their codes are in the index."""
    shutil.rmtree(_folder(index), ignore_errors=True)


def _folder(index: Path) -> Path:
    return index.with_name(f"{index.name}.shards")
