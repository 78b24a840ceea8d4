"""The image database of the page: a store, the model that encoded it, and the image files.

Everything is loaded once. The rows come from the store alone, so what other processes add or remove
is found at once; `ingest.publishing` fills a store that does not exist yet.
"""

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from retrieval.data import decode, layout, provenance
from retrieval.photo_search.engine import PhotoSearch
from retrieval.store.base import ALL, ImageStore, StoreFailure
from retrieval.store.rows import ImageRow, Metadata

log = logging.getLogger(__name__)

FACETS_S = 5.0  # seconds until menus and counts follow what other processes changed
FAILED_S = 1.0  # seconds until a store that failed is asked again: it may take long to fail

Facets = Counter[Metadata]


@dataclass
class ImageDatabase:
    """A store with the model that encoded it. Calls from several threads are fine.

    Attributes:
        engine: The search.
        root: Folder of the image files that were published.
    """

    engine: PhotoSearch
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
        """Open a store that exists, and load its model, as `PhotoSearch.open_store` does."""
        engine = PhotoSearch.open_store(data_dir, save_path, store, database, device)
        root = engine.store.collection.record["preparation"]["image_root_path"]
        return cls(engine, data_dir / Path(root).expanduser())

    @property
    def store(self) -> ImageStore:
        """The rows."""
        return self.engine.store

    def warm_up(self) -> None:
        """Read the rows into memory and encode once, so that the first client does not wait."""
        side = self.engine.preprocessing.side
        embeddings = self.engine.encoder.embed(np.zeros((1, 3, side, side), np.uint8))
        self.store.search(embeddings, 1, ALL)
        self.facets()

    def facets(self) -> Facets:
        """Return how many rows have each metadata."""
        with self._lock:  # those who wait for it take what the first one got
            known, failed = self.known_facets(), self._failed
            if known is not None:
                return known
            if failed is not None and time.monotonic() - failed[0] < FAILED_S:
                raise StoreFailure(failed[1])
            try:
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

    def row(self, number: int) -> ImageRow | None:
        """Return a row, None if it is not there."""
        rows = self.store.get([number])
        return rows[0] if rows else None

    def add(self, row: ImageRow) -> bool:
        """Add a row, and return whether it was new."""
        is_new = bool(self.store.add([row]))
        self._facets = None
        return is_new

    def remove(self, number: int) -> bool:
        """Remove a row, and return whether it was there."""
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
        path, preprocessing = self.image_file(row), self.engine.preprocessing
        box = row.box if preprocessing.crop == "box" else None
        return None if path is None else preprocessing.square(path, box, f"image {row.id}")


@lru_cache(maxsize=1 << 16)
def _sha256_of_version(path: Path, mtime_ns: int, size: int) -> str:
    """Return the hash of a file, which is read again when its time or its size has changed."""
    return provenance.sha256(path)
