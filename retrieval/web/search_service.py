"""Searches of many clients at once: decoded in a few threads, encoded and compared in batches.

One thread encodes the photos that wait and then compares them with the rows, both with all cores:
a second one would only divide the batches. Comparing 32 photos takes four times as long as one.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from retrieval.data.decode import Box
from retrieval.data.formats import InputError
from retrieval.evaluation.local_means import NEIGHBORS
from retrieval.photo_search.prediction import Prediction, predict
from retrieval.photo_search.results import Answer
from retrieval.store.rows import ImageRow
from retrieval.threads import worker_threads
from retrieval.web.batch_search import (
    FoundRows,
    PhotoTask,
    answers_of,
    encoded,
    find_rows,
)
from retrieval.web.batching import Batcher, RequestSlots
from retrieval.web.facets import n_fitting
from retrieval.web.image_database import ImageDatabase
from retrieval.web.search_options import Facets, SearchOptions
from retrieval.web.service_metrics import ServiceMetrics
from retrieval.web.upload_cache import SHOWN_SIDE, CachedUpload, UploadCache, square_of_cached
from retrieval.web.uploads import PreparedPhoto, clean_jpeg, prepare_upload

BATCH = 32  # photos encoded and compared together
MAX_PARTS = 16  # of one upload that are kept
WAITING = 64  # requests from decoding to answer; more are told to come again

Result = TypeVar("Result")
Outcome = tuple[np.ndarray, FoundRows | None]  # embedding of a photo, and what was found


@dataclass(frozen=True)
class SearchResult:
    """The result of a search with a photo.

    Attributes:
        answers: The answers that are shown, best first.
        prediction: The most likely make, model and year.
        n_hidden: Answers that are not shown, as they are less similar than was asked for.
        n_searched: Images that the filters allow.
        is_exact: Whether all of these images were compared.
        recall: Of an approximate search: the measured share of the exact neighbors it finds.
        seconds: What decoding, encoding and comparing took, with waiting.
    """

    answers: tuple[Answer, ...]
    prediction: Prediction
    n_hidden: int
    n_searched: int
    is_exact: bool
    recall: float | None
    seconds: float


class SearchService:
    """Answers requests; all methods that are coroutines belong to one event loop.

    Attributes:
        database: The image database.
        upload_cache: The uploads of the last minutes.
        slots: Bounds the requests that are worked on.
    """

    def __init__(
        self, database: ImageDatabase, metrics: ServiceMetrics, waiting: int = WAITING
    ) -> None:
        """Start the threads.

        Args:
            database: The image database.
            metrics: Where times and counts go.
            waiting: Requests that are worked on or wait; more raise `Busy`.
        """
        self.database, self.metrics = database, metrics
        self.upload_cache, self.slots = UploadCache(), RequestSlots(waiting)
        self._pool = ThreadPoolExecutor(worker_threads(), "decode")
        self._batcher = Batcher(self._do, "encode and search", BATCH)

    def close(self) -> None:
        """End the threads; requests that wait are answered first."""
        self._batcher.close()
        self._pool.shutdown()

    async def in_thread(self, work: Callable[..., Result], *values: object) -> Result:
        """Do work that decodes or reads files in one of a few threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, work, *values)

    async def prepare(self, content: bytes, options: SearchOptions) -> PreparedPhoto:
        """Decode an upload."""
        with self.metrics.timed("decode"):
            return await self.in_thread(
                prepare_upload, content, self.database.preprocessing, options.box
            )

    async def keep(self, content: bytes, options: SearchOptions) -> str:
        """Decode and encode an upload, put it into the cache, and return its key."""
        photo = await self.prepare(content, options)
        embedding = await self.embed(photo.square)
        jpeg = await self.in_thread(clean_jpeg, content, SHOWN_SIDE)
        parts = {options.box: (embedding, photo.square)}
        return self.upload_cache.put(CachedUpload(jpeg, photo.size, parts))

    async def embed(self, square: np.ndarray) -> np.ndarray:
        """Return the embedding of a prepared photo, (dim,) float32."""
        embedding, _ = await asyncio.wrap_future(self._batcher.submit(PhotoTask(square)))
        return embedding

    async def embed_row(
        self, row: ImageRow, box: Box | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the embedding of an image of the database, and its square if it was prepared.

        Args:
            row: The image.
            box: Part of its file, in pixels; None: what the database was made from.

        Raises:
            InputError: A box, but no file, or one that it is not within.
        """
        if box is None:
            return row.embedding, None
        path = await self.in_thread(self.database.image_file, row)
        if path is None:
            raise InputError(f"the file of image {row.id} is not here; leave the box out")
        square = await self.in_thread(self.database.preprocessing.square, path, box, "the image")
        return await self.embed(square), square

    async def embed_cached(
        self, photo: CachedUpload, box: Box | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return embedding and square of a cached upload; each part is encoded once."""
        if box not in photo.embeddings:
            square = await self.in_thread(square_of_cached, photo, self.database.preprocessing, box)
            if len(photo.embeddings) >= MAX_PARTS:
                photo.embeddings.pop(next(iter(photo.embeddings)))
            photo.embeddings[box] = await self.embed(square), square
            self.upload_cache.trim()
        return photo.embeddings[box]

    async def facets(self) -> Facets:
        """Return what `ImageDatabase.facets` does."""
        known = self.database.known_facets()
        return await self.in_thread(self.database.facets) if known is None else known

    async def search(
        self,
        photo: np.ndarray,
        options: SearchOptions,
        exclude_id: int | None = None,
        started: float | None = None,
    ) -> SearchResult:
        """Search with a photo.

        Args:
            photo: (3, side, side) uint8, prepared; or its embedding, (dim,) float32.
            options: What is asked for; the box has been used already.
            exclude_id: Id of an image to leave out: the one that is searched with.
            started: When the work on the photo began, by ``time.perf_counter``; None: now.

        Raises:
            InputError: No image has the value of a filter, or all of the values.
        """
        started = time.perf_counter() if started is None else started
        facets = await self.facets()
        where = options.where(facets)
        n_searched = n_fitting(facets, where)
        if not n_searched:
            raise InputError("no image of the database has all of these values; widen the filters")
        depth = max(options.k, NEIGHBORS)  # as many as are judged, however many are shown
        task = PhotoTask(photo, depth + (exclude_id is not None), where)
        _, found = await asyncio.wrap_future(self._batcher.submit(task))
        assert found is not None
        rows = [row for row in found.rows if row.id != exclude_id]
        answers = answers_of(rows)
        embeddings = np.stack([row.embedding for row in rows]) if rows else np.empty((0, 0))
        nearest, threshold = answers[: options.k], options.at_least
        shown = tuple(a for a in nearest if threshold is None or a.similarity >= threshold)
        # It holds for the whole database only.
        calibration = self.database.calibration if n_searched == facets.total() else None
        return SearchResult(
            answers=shown,
            prediction=predict(answers, embeddings, calibration),
            n_hidden=len(nearest) - len(shown),
            n_searched=n_searched,
            is_exact=found.is_exact,
            recall=found.recall,
            seconds=time.perf_counter() - started,
        )

    def _do(self, tasks: Sequence[PhotoTask]) -> Sequence[Outcome | Exception]:
        self.metrics.batch.observe(len(tasks))
        with self.metrics.timed("encode"):
            embeddings = encoded(self.database, tasks)
        with self.metrics.timed("search"):
            found = find_rows(self.database, tasks, embeddings)
        pairs = zip(embeddings, found, strict=True)
        return [rows if isinstance(rows, Exception) else (of, rows) for of, rows in pairs]
