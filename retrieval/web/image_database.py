"""The image database as the page sees it: a store, the model that encoded it, and the image files.

Everything is loaded once. The rows come from the store alone, so what other processes add or remove
is found at once; `publishing` fills a store that does not exist yet.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.data import decode, layout, provenance
from retrieval.data.command_lines import command
from retrieval.data.formats import InputError
from retrieval.evaluation.calibration import Calibration, load_calibration
from retrieval.photo_search.engine import check_model
from retrieval.photo_search.preprocessing import Preprocessing
from retrieval.store.backends import open_store
from retrieval.store.base import ImageStore, RankedRows
from retrieval.store.filters import Filter
from retrieval.store.rows import Facts, ImageRow
from retrieval.web.search_options import Facets

if TYPE_CHECKING:
    from retrieval.photo_search.query_encoder import QueryEncoder

log = logging.getLogger(__name__)

FACETS_S = 5.0  # seconds until menus and counts follow what other processes changed
FAILED_S = 1.0  # seconds until a store that failed is asked again: it may take long to fail


class StoreFailure(Exception):
    """The store is gone, full or does not answer; the message names it."""


@dataclass
class ImageDatabase:
    """A store with the model that encoded it. Calls from several threads are fine.

    Attributes:
        store: The rows.
        preprocessing: How its images were prepared.
        encoder: The model.
        calibration: How likely an answer is right; None if that was not measured for these
            embeddings.
        root: Folder of the image files that were published.
    """

    store: ImageStore
    preprocessing: Preprocessing
    encoder: "QueryEncoder"
    calibration: Calibration | None
    root: Path
    _facets: tuple[float, Facets] | None = None
    _failed: tuple[float, str] | None = None
    _changed: set[int] = field(default_factory=set)  # rows whose file is another photo now
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(
        cls,
        data_dir: Path,
        save_path: Path,
        store: str,
        device: str = "auto",
        database: str = layout.DATABASE.name,
    ) -> "ImageDatabase":
        """Open a store that exists, and load its model.

        Args:
            data_dir: The data directory.
            save_path: The checkpoint that encoded the database.
            store: A folder, the address of a Milvus server or a file of Milvus Lite.
            device: Where the model runs: auto, cpu, cuda or cuda:n.
            database: Name of the embeddings that are published, for messages.

        Raises:
            InputError: A file is missing, or files do not belong together.
        """
        opened = open_store(data_dir, store)
        record = opened.collection.record
        preprocessing = Preprocessing.of_record(record, opened.name, data_dir)
        check_model(data_dir, record, save_path, database, store)
        from retrieval.photo_search.query_encoder import QueryEncoder

        return cls(
            opened,
            preprocessing,
            QueryEncoder.load(save_path, record, device),
            _calibration(data_dir, opened.collection.checkpoint_sha256),
            data_dir / Path(record["preparation"]["image_root_path"]).expanduser(),
        )

    def warm_up(self) -> None:
        """Read the rows into memory and encode once, so that the first client does not wait."""
        side = self.preprocessing.side
        embedding = self.encoder.embed(np.zeros((1, 3, side, side), np.uint8))
        self.neighbors(embedding, 1, Filter())
        self.facets()

    def facets(self) -> Facets:
        """Return how many rows have each make, model, label, year and viewpoint."""
        with self._lock:  # those who wait for it take what the first one got
            known, failed = self.known_facets(), self._failed
            if known is not None:
                return known
            if failed is not None and time.monotonic() - failed[0] < FAILED_S:
                raise StoreFailure(failed[1])
            try:
                with store_failures():
                    known = self.store.facets()
            except StoreFailure as error:
                self._failed = time.monotonic(), str(error)
                raise
            self._facets = time.monotonic(), known
            return known

    def known_facets(self) -> Facets | None:
        """Return the facets if they were read in the last seconds."""
        known = self._facets
        return None if known is None or time.monotonic() - known[0] > FACETS_S else known[1]

    def neighbors(self, queries: np.ndarray, k: int, where: Filter) -> RankedRows:
        """Return the nearest rows of each query, as the store does."""
        with store_failures():
            return self.store.search(queries, k, where)

    def rows(self, ids: Sequence[int]) -> list[ImageRow]:
        """Return the rows with these ids, in order; those that are not there are left out."""
        with store_failures():
            return self.store.get(ids)

    def facts(self, ids: Sequence[int]) -> dict[int, Facts]:
        """Return the metadata of the rows with these ids, by id."""
        with store_failures():
            return self.store.facts(ids)

    def embeddings(self, ids: Sequence[int]) -> dict[int, np.ndarray]:
        """Return the embeddings of the rows with these ids, by id."""
        with store_failures():
            return self.store.embeddings(ids)

    def ids(self, where: Filter) -> np.ndarray:
        """Return the ids of the rows that fit a filter, ascending."""
        with store_failures():
            return self.store.ids(where)

    def add(self, row: ImageRow) -> bool:
        """Add a row, and return whether it was new."""
        with store_failures():
            is_new = bool(self.store.add([row]))
        self._facets = None
        return is_new

    def remove(self, number: int) -> bool:
        """Remove a row, and return whether it was there."""
        with store_failures():
            was_there = bool(self.store.remove([number]))
        self._facets = None
        return was_there

    def image_file(self, row: ImageRow) -> Path | None:
        """Return the image file of a row; None if it is gone, or is another photo now.

        The path is the store's own; no request has any part in it.
        """
        path = self.root / row.path if row.path else None
        if path is None or not path.is_file():
            return None
        status = path.stat()
        if _sha256_of_version(path, status.st_mtime_ns, status.st_size) == row.sha256:
            return path
        if row.id not in self._changed:
            self._changed.add(row.id)
            log.warning(
                "%s is another photo than when it was published: its old thumbnail is shown; make "
                "image matrix and database again, then publish",
                path,
            )
        return None

    def image_size(self, row: ImageRow) -> tuple[int, int] | None:
        """Return width and height of a row's image file as displayed; None if it cannot be read."""
        path = self.image_file(row)
        if path is None:
            return None
        try:
            with decode.opened(path) as image:
                return decode.displayed_size(image)
        except decode.UnreadableImage:
            return None

    def square(self, row: ImageRow) -> np.ndarray | None:
        """Return an image of the database as its model saw it; None without its file."""
        path = self.image_file(row)
        box = row.box if self.preprocessing.crop == "box" else None
        return None if path is None else self.preprocessing.square(path, box, f"image {row.id}")


@lru_cache(maxsize=1 << 16)
def _sha256_of_version(path: Path, mtime_ns: int, size: int) -> str:
    """Return the hash of a file, which is read again when its time or its size has changed."""
    return provenance.sha256(path)


@contextmanager
def store_failures() -> Iterator[None]:
    """Turn the errors of a store, which a person has to look after, into `StoreFailure`."""
    try:
        yield
    except InputError as error:
        log.error("%s", error)
        raise StoreFailure(str(error)) from error


def _calibration(data_dir: Path, checkpoint_sha256: str) -> Calibration | None:
    if not layout.CALIBRATION.at(data_dir).exists():
        return None
    content = layout.CALIBRATION.load(data_dir)
    if content.get("checkpoint_sha256") != checkpoint_sha256:
        log.warning(
            "%s was fitted on another model and is ignored; fit it again: %s",
            layout.CALIBRATION.name,
            command(layout.CALIBRATION.stage, {}, data_dir),
        )
        return None
    found = load_calibration(data_dir, content.get("database", ""))
    return found[0] if found else None
