"""Searches of many clients at once: decoded in a few threads, encoded and compared in batches.

One thread encodes the photos that wait and then compares them with the rows, both with all cores:
a second one would only divide the batches. Comparing 32 photos takes four times as long as one.
"""

import asyncio
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from retrieval.data.decode import Box
from retrieval.data.formats import InputError
from retrieval.data.image_formats import upload_formats
from retrieval.photo_search.answers import Answers, find_answers
from retrieval.photo_search.engine import depth_of
from retrieval.photo_search.filters import scope_of
from retrieval.photo_search.results import Query, SearchResult
from retrieval.store.base import ALL, StoreFailure
from retrieval.store.filters import Filter
from retrieval.store.rows import ImageRow
from retrieval.threads import worker_threads
from retrieval.web.batching import Batcher, RequestSlots
from retrieval.web.image_database import Facets, ImageDatabase
from retrieval.web.search_options import SearchOptions
from retrieval.web.service_metrics import ServiceMetrics
from retrieval.web.upload_cache import SHOWN_SIDE, CachedUpload, UploadCache, square_of_cached
from retrieval.web.uploads import clean_jpeg

BATCH = 32  # photos encoded and compared together
WAITING = 64  # requests from decoding to answer; more are told to come again
NAME = "the database"  # in messages: clients need not know where it is

Result = TypeVar("Result")


@dataclass(frozen=True)
class PhotoTask:
    """A photo that waits.

    Attributes:
        photo: (3, side, side) uint8, to be encoded; or its embedding, (dim,) float32.
        k: Answers to find; 0: it is only encoded.
        where: Rows that may be found.
    """

    photo: np.ndarray
    k: int = 0
    where: Filter = ALL


Outcome = tuple[np.ndarray, Answers | None]  # embedding of a photo, and what was found


class SearchService:
    """Answers requests; all methods that are coroutines belong to one event loop.

    Attributes:
        database: The image database.
        upload_cache: The uploads of the last hour.
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

    async def prepare(self, content: bytes, box: Box | None) -> np.ndarray:
        """Decode a part of an upload, (3, side, side) uint8."""
        square, formats = self.database.engine.preprocessing.square, upload_formats()
        with self.metrics.timed("decode"):
            return await self.in_thread(square, io.BytesIO(content), box, "the photo", formats)

    async def cache(self, content: bytes, box: Box | None) -> str:
        """Decode and encode an upload, put it into the cache, and return its key."""
        square = await self.prepare(content, box)
        embedding = await self.embed(square)
        jpeg, size = await self.in_thread(clean_jpeg, content, SHOWN_SIDE)
        return self.upload_cache.put(CachedUpload(jpeg, size, {box: (embedding, square)}))

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
        preprocessing = self.database.engine.preprocessing
        square = await self.in_thread(preprocessing.square, path, box, "the image")
        return await self.embed(square), square

    async def embed_cached(
        self, key: str, upload: CachedUpload, box: Box | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return embedding and square of a cached upload; each part is encoded once."""
        if box not in upload.parts:
            preprocessing = self.database.engine.preprocessing
            square = await self.in_thread(square_of_cached, upload, preprocessing, box)
            embedding = await self.embed(square)
            self.upload_cache.add_part(key, box, embedding, square)
            return embedding, square
        return upload.parts[box]

    async def facets(self) -> Facets:
        """Return what `ImageDatabase.facets` does."""
        known = self.database.known_facets()
        return await self.in_thread(self.database.facets) if known is None else known

    async def search(
        self, photo: np.ndarray, options: SearchOptions, exclude_id: int | None = None
    ) -> SearchResult:
        """Search with a photo.

        Args:
            photo: (3, side, side) uint8, prepared; or its embedding, (dim,) float32.
            options: What is asked for; the box has been used already.
            exclude_id: Id of an image to leave out: the one that is searched with.

        Raises:
            InputError: No image has the value of a filter, or all of the values.
        """
        scope = scope_of(options.filters, await self.facets(), NAME)
        task = PhotoTask(photo, depth_of(options.k) + (exclude_id is not None), scope.where)
        embedding, answers = await asyncio.wrap_future(self._batcher.submit(task))
        assert answers is not None
        others = [answer for answer in answers.nearest if answer.id != exclude_id]
        answers = replace(answers, nearest=others)
        return self.database.engine.result(
            Query(embedding), answers, scope, options.k, options.at_least
        )

    def _do(self, tasks: Sequence[PhotoTask]) -> Sequence[Outcome | Exception]:
        self.metrics.batch.observe(len(tasks))
        with self.metrics.timed("encode"):
            embeddings = self._embeddings(tasks)
        with self.metrics.timed("search"):
            answers = self._answers(tasks, embeddings)
        pairs = zip(embeddings, answers, strict=True)
        return [of if isinstance(of, Exception) else (embedding, of) for embedding, of in pairs]

    def _embeddings(self, tasks: Sequence[PhotoTask]) -> list[np.ndarray]:
        """Return the embedding of each photo, (dim,) float32."""
        embeddings = [task.photo for task in tasks]
        squares = {number: photo for number, photo in enumerate(embeddings) if photo.ndim == 3}
        if squares:
            encoded = self.database.engine.encoder.embed(np.stack(list(squares.values())))
            for number, embedding in zip(squares, encoded, strict=True):
                embeddings[number] = embedding
        return embeddings

    def _answers(
        self, tasks: Sequence[PhotoTask], embeddings: Sequence[np.ndarray]
    ) -> list[Answers | StoreFailure | None]:
        """Compare photos that ask alike with one pass over the rows.

        Returns:
            For each task: what was found, why nothing could be, or None if nothing was asked for.
        """
        alike: dict[tuple[int, Filter], list[int]] = defaultdict(list)
        for number, task in enumerate(tasks):
            if task.k:
                alike[task.k, task.where].append(number)
        outcomes: list[Answers | StoreFailure | None] = [None] * len(tasks)
        for (k, where), numbers in alike.items():
            queries = np.stack([embeddings[number] for number in numbers])
            found: Sequence[Answers | StoreFailure]
            try:
                found = find_answers(self.database.store, queries, k, where)
            except StoreFailure as error:  # for all at once: a store may take long to fail
                found = [error] * len(numbers)
            for number, outcome in zip(numbers, found, strict=True):
                outcomes[number] = outcome
        return outcomes
