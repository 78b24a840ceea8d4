"""Search an image database with a photo: everything is loaded once, for any number of photos.

    search = PhotoSearch.open(Path("demo"), Path("demo/para/model.ep4"))
    found = search.search(Path("photo.jpg"), k=20, filters=Filters(year="2010"))
    print(found.prediction.model, found.answers[0])

A photo is prepared, encoded and compared exactly as the database's images were: answers and
similarities are those of ``process_data.mips`` for the same file. The command searches the files of
a database, the page a store.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.data import layout
from retrieval.data.command_lines import command
from retrieval.data.decode import Box
from retrieval.data.formats import InputError
from retrieval.evaluation.calibration import Calibration, load_calibration
from retrieval.evaluation.local_means import NEIGHBORS
from retrieval.photo_search.answers import Answer, Answers, Rows, find_answers
from retrieval.photo_search.compatibility import check_model
from retrieval.photo_search.database_files import DatabaseFiles
from retrieval.photo_search.filters import Filters, Scope, scope_of
from retrieval.photo_search.prediction import predict
from retrieval.photo_search.preprocessing import Photo, Preprocessing
from retrieval.photo_search.results import Query, SearchResult
from retrieval.store.backends import open_store
from retrieval.store.base import ImageStore

if TYPE_CHECKING:
    from retrieval.photo_search.query_encoder import QueryEncoder

log = logging.getLogger(__name__)

NO_FILTERS = Filters()


@dataclass(frozen=True)
class PhotoSearch:
    """An image database with the model that encoded it. Calls from several threads are fine.

    Attributes:
        rows: The images to search: a store, or the files of a database.
        preprocessing: How the database's images were prepared.
        encoder: The model.
        calibration: How likely an answer is right; None if it was not measured for this database.
    """

    rows: Rows
    preprocessing: Preprocessing
    encoder: "QueryEncoder"
    calibration: Calibration | None

    @property
    def files(self) -> DatabaseFiles:
        """The files of the database; not for a store."""
        assert isinstance(self.rows, DatabaseFiles)
        return self.rows

    @property
    def store(self) -> ImageStore:
        """The store; not for the files of a database."""
        assert isinstance(self.rows, ImageStore)
        return self.rows

    @classmethod
    def open(
        cls,
        data_dir: Path,
        save_path: Path,
        database: str = layout.DATABASE.name,
        device: str = "auto",
    ) -> "PhotoSearch":
        """Load the files of a database, and its model.

        Args:
            data_dir: The data directory.
            save_path: The checkpoint that encoded the database.
            database: Name of the embeddings.
            device: Where the model runs: auto, cpu, cuda or cuda:n.

        Raises:
            InputError: A file is missing, or files do not belong together.
        """
        files = DatabaseFiles.open(data_dir, database)
        check_model(data_dir, files.record, save_path, database)
        calibrated = load_calibration(data_dir, database)
        from retrieval.photo_search.query_encoder import QueryEncoder  # imports torch

        return cls(
            files,
            files.preprocessing,
            QueryEncoder.load(save_path, files.record, device),
            calibrated[0] if calibrated else None,
        )

    @classmethod
    def open_store(
        cls,
        data_dir: Path,
        save_path: Path,
        store: str = layout.STORE.name,
        database: str = layout.DATABASE.name,
        device: str = "auto",
    ) -> "PhotoSearch":
        """Open a store that exists, and load its model.

        Args:
            data_dir: The data directory.
            save_path: The checkpoint that encoded the database.
            store: A folder, the address of a Milvus server or a file of Milvus Lite.
            database: Name of the embeddings that are published, for messages.
            device: Where the model runs: auto, cpu, cuda or cuda:n.

        Raises:
            InputError: A file is missing, or files do not belong together.
        """
        rows = open_store(data_dir, store)
        record = rows.collection.record
        preprocessing = Preprocessing.of_record(record, rows.name, data_dir)
        check_model(data_dir, record, save_path, database, store)
        from retrieval.photo_search.query_encoder import QueryEncoder  # imports torch

        encoder = QueryEncoder.load(save_path, record, device)
        calibration = _calibration_of(data_dir, rows.collection.checkpoint_sha256)
        return cls(rows, preprocessing, encoder, calibration)

    def search(
        self,
        photo: Photo,
        box: Box | None = None,
        k: int = 20,
        filters: Filters = NO_FILTERS,
        min_similarity: float | None = None,
        name: str | None = None,
    ) -> SearchResult:
        """Search with a photo.

        Args:
            photo: A file, an open file, or a PIL image.
            box: The part of it to search with: x1, y1, x2, y2 in pixels of the photo as displayed,
                end exclusive; None takes the whole.
            k: Answers to look for.
            filters: Which images may be answers. Filters apply before the search, so there are k
                answers while k images are allowed.
            min_similarity: Hide answers of a lower similarity.
            name: What to call the photo; None takes the name of the file.

        Raises:
            InputError: The photo, the box or a filter is wrong.
        """
        name = name or (str(photo) if isinstance(photo, Path) else "the photo")
        square = self.preprocessing.square(photo, box, name)
        query = Query(self.encoder.embed(square[None])[0], square, name, box)
        return self.search_encoded(query, k, filters, min_similarity)

    def search_encoded(
        self,
        query: Query,
        k: int = 20,
        filters: Filters = NO_FILTERS,
        min_similarity: float | None = None,
    ) -> SearchResult:
        """Search with a photo that is encoded already, as `search` does."""
        if k < 1:
            raise InputError(f"--k must be at least 1; got {k}")
        scope = scope_of(filters, self.rows.facets(), self.rows.name)
        depth = min(depth_of(k), scope.n_searched)
        (answers,) = find_answers(self.rows, query.embedding[None], depth, scope.where)
        return self.result(query, answers, scope, k, min_similarity)

    def result(
        self,
        query: Query,
        answers: Answers,
        scope: Scope,
        k: int,
        min_similarity: float | None = None,
    ) -> SearchResult:
        """Return the result of a search.

        Args:
            query: The photo.
            answers: The nearest images, `depth_of` (k) of them if there are so many.
            scope: The scope of the search.
            k: Answers to look for.
            min_similarity: Hide answers of a lower similarity.
        """
        nearest = answers.nearest[:k]
        shown = [a for a in nearest if min_similarity is None or a.similarity >= min_similarity]
        # It holds for the whole database only.
        calibration = self.calibration if scope.n_searched == scope.n_image else None
        return SearchResult(
            query=query,
            answers=tuple(map(self._with_path, shown)),
            prediction=predict(answers.nearest, calibration),
            n_hidden=len(nearest) - len(shown),
            n_image=scope.n_image,
            n_searched=scope.n_searched,
            is_exact=answers.is_exact,
            recall=answers.recall,
        )

    def _with_path(self, answer: Answer) -> Answer:
        if not isinstance(self.rows, DatabaseFiles):
            return answer
        return replace(answer, path=self.rows.table.paths[answer.id])


def depth_of(k: int) -> int:
    """Return how many images to find for ``k`` answers: as many as a prediction is made from."""
    return max(k, NEIGHBORS)


def _calibration_of(data_dir: Path, checkpoint_sha256: str) -> Calibration | None:
    """Return the calibration of a store; None if there is none, or one of another model."""
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
    calibrated = load_calibration(data_dir, content.get("database", ""))
    return calibrated[0] if calibrated else None
