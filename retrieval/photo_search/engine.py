"""Search an image database with a photo: everything is loaded once, then photos are searched with.

    search = PhotoSearch.open(Path("demo"), Path("demo/para/model.ep4"))
    found = search.search(Path("photo.jpg"), k=20, filters=Filters(year="2010"))
    print(found.prediction.model, found.answers[0])

A photo is prepared, encoded and compared exactly as the database's images were: answers and
similarities are those of ``process_data.mips`` for the same file.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data import layout, provenance, sources
from retrieval.data.command_lines import checkpoints_of, command, remake_command
from retrieval.data.decode import Box
from retrieval.data.formats import InputError
from retrieval.data.images import Images
from retrieval.evaluation.calibration import Calibration, load_calibration
from retrieval.evaluation.local_means import NEIGHBORS
from retrieval.model import checkpoint
from retrieval.photo_search.found import Found
from retrieval.photo_search.metadata import Catalogue, Filters, load_catalogue
from retrieval.photo_search.prediction import predict
from retrieval.photo_search.preprocessing import Photo, Preprocessing
from retrieval.photo_search.results import Answer
from retrieval.report.retrieval_results import images_of
from retrieval.search.embeddings import check_unit_rows
from retrieval.search.exact import nearest_neighbors

if TYPE_CHECKING:
    from retrieval.photo_search.query_encoder import QueryEncoder

NO_FILTERS = Filters()


@dataclass(frozen=True)
class PhotoSearch:
    """An image database with the model that encoded it. Calls from several threads are fine.

    Attributes:
        data_dir: The data directory.
        record: The record of the database's embeddings.
        preprocessing: How its images were prepared.
        gallery: (n_image, dim) float32, memory-mapped.
        catalogue: Metadata of its images.
        calibration: How likely an answer is right; None if it was not measured for this database.
        encoder: The model.
    """

    data_dir: Path
    record: dict[str, Any]
    preprocessing: Preprocessing
    gallery: np.ndarray
    catalogue: Catalogue
    calibration: Calibration | None
    encoder: "QueryEncoder"

    @classmethod
    def open(
        cls,
        data_dir: Path,
        save_path: Path,
        database: str = layout.DATABASE.name,
        device: str = "auto",
    ) -> "PhotoSearch":
        """Load a database and its model.

        Args:
            data_dir: The data directory.
            save_path: The checkpoint that encoded the database.
            database: Name of the embeddings.
            device: Where the model runs: auto, cpu, cuda or cuda:n.

        Raises:
            InputError: A file is missing, or files do not belong together.
        """
        gallery = layout.DATABASE.load(data_dir, database)
        record = provenance.load_record(data_dir, database) or {}
        preprocessing = Preprocessing.of_record(record, database, data_dir)
        check_model(data_dir, record, save_path, database)
        catalogue = load_catalogue(data_dir, record, database)
        check_unit_rows(gallery, database, data_dir)
        calibrated = load_calibration(data_dir, database)
        from retrieval.photo_search.query_encoder import QueryEncoder  # imports torch

        return cls(
            data_dir,
            record,
            preprocessing,
            gallery,
            catalogue,
            calibrated[0] if calibrated else None,
            QueryEncoder.load(save_path, record, device),
        )

    @cached_property
    def images(self) -> Images:
        """The database's images as the model saw them, (n_image, 3, side, side) uint8.

        Index it with rows, (n,) int64.
        """
        return images_of(self.data_dir, self.record, layout.IMAGE_MATRIX)

    def search(
        self,
        photo: Photo,
        box: Box | None = None,
        k: int = 20,
        filters: Filters = NO_FILTERS,
        min_similarity: float | None = None,
        name: str | None = None,
    ) -> Found:
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
        embedding = self.encoder.embed(square[None])[0]
        return self.answer(square, embedding, box, k, filters, min_similarity, name)

    def answer(
        self,
        square: np.ndarray,
        embedding: np.ndarray,
        box: Box | None = None,
        k: int = 20,
        filters: Filters = NO_FILTERS,
        min_similarity: float | None = None,
        name: str = "the photo",
    ) -> Found:
        """Search with a photo that is encoded already, as `search` does.

        Args:
            square: (3, side, side) uint8, the prepared photo.
            embedding: (dim,) float32 of unit L2 norm.
            box: The part of the photo that it shows.
            k: Answers to look for.
            filters: Which images may be answers.
            min_similarity: Hide answers of a lower similarity.
            name: What to call the photo.
        """
        if k < 1:
            raise InputError(f"--k must be at least 1; got {k}")
        is_allowed = self.catalogue.mask(filters)
        n_searched = len(self.gallery) if is_allowed is None else int(is_allowed.sum())
        depth = min(max(k, NEIGHBORS), n_searched)  # as many as are judged
        ids, similarities = nearest_neighbors(
            embedding[None], self.gallery, depth, is_allowed=is_allowed
        )
        answers = self._answers(ids[0], similarities[0])
        # It holds for the whole database only.
        calibration = self.calibration if n_searched == len(self.gallery) else None
        shown = [a for a in answers[:k] if min_similarity is None or a.similarity >= min_similarity]
        return Found(
            photo=name,
            box=box,
            answers=tuple(shown),
            prediction=predict(answers, self.gallery[ids[0]], calibration),
            n_hidden=len(answers[:k]) - len(shown),
            n_image=len(self.gallery),
            n_searched=n_searched,
            square=square,
            embedding=embedding,
        )

    def _answers(self, ids: np.ndarray, similarities: np.ndarray) -> list[Answer]:
        known = self.catalogue
        return [
            Answer(
                rank=rank,
                index=index,
                similarity=similarity,
                label=(label := int(known.labels[index])),
                name=known.name(label),
                make=known.makes.get(label),
                year=None if known.years is None else known.years[index] or None,
                viewpoint=None if known.viewpoints is None else known.viewpoints[index] or None,
                path=known.paths[index],
            )
            for rank, (index, similarity) in enumerate(
                zip(ids.tolist(), similarities.tolist(), strict=True), 1
            )
        ]


def check_model(
    data_dir: Path,
    record: dict[str, Any],
    save_path: Path,
    database: str,
    store: str | None = None,
) -> None:
    """Refuse a checkpoint that did not encode the database, before torch is imported.

    Args:
        data_dir: The data directory.
        record: The record of the embeddings.
        save_path: The checkpoint.
        database: Name of the embeddings.
        store: The store that holds them, if they are of one.
    """
    check_comparable(record, store or database, data_dir)
    checkpoint.check_exists(save_path, data_dir)
    sha256 = provenance.sha256(save_path)
    if record.get("checkpoint_sha256") == sha256:
        return
    remedies = []
    if found := found_checkpoint(data_dir, record):
        remedies.append(f"name the one that did: --save_path={found}")
    now = sources.load_record_unchecked(data_dir, database)
    commands = []
    if store is None or now.get("checkpoint_sha256") != sha256:
        commands.append(_encode_command(data_dir, database, now or record, save_path))
    if store is not None:
        commands.append(publish_command(data_dir, store, database))
    what = "encode the database with this one" if len(commands) > bool(store) else "publish it anew"
    remedies.append(f"{what}: {' && '.join(commands)}")
    raise InputError(
        f"{save_path} is not the model that encoded {store or database}; {', or '.join(remedies)}"
    )


def found_checkpoint(
    data_dir: Path, record: dict[str, Any], save_path: Path | None = None
) -> Path | None:
    """Return the checkpoint that encoded some embeddings; None if it is nowhere.

    Args:
        data_dir: The data directory.
        record: The record of the embeddings.
        save_path: Where to look first; then where it was, and where a later training puts it.
    """
    places = checkpoints_of(data_dir, record) if record.get("checkpoint") else []
    for path in (*([save_path] if save_path else ()), *places):
        if path.is_file() and provenance.sha256(path) == record.get("checkpoint_sha256"):
            return path
    return None


def publish_command(data_dir: Path, store: str, database: str) -> str:
    """Return the command that publishes a database into a store, as it is typed."""
    usual = {"store": layout.STORE.name, "database": layout.DATABASE.name}
    options = {"store": store, "database": database}
    return command(
        "python -m process_data.publish",
        {name: value for name, value in options.items() if value != usual[name]},
        data_dir,
    )


def _encode_command(data_dir: Path, database: str, record: dict[str, Any], save_path: Path) -> str:
    new = record | {"checkpoint": str(save_path), "sources": {}}
    made_by = remake_command(data_dir, database, new)
    return made_by or layout.DATABASE.made_by(data_dir, database)


def check_comparable(record: dict[str, Any], database: str, data_dir: Path) -> None:
    """Refuse embeddings that a single photo cannot be compared with.

    Args:
        record: Their record.
        database: Their name, for the message.
        data_dir: The data directory, for the message.
    """
    for name, what in (
        ("transform_sha256", "transformed"),
        ("adapt_bn", "encoded with --adapt_bn"),
    ):
        if record.get(name):
            raise InputError(
                f"{database} was {what}, which a single photo cannot be; name the embeddings that "
                f"were made without it, or make them with: {layout.DATABASE.made_by(data_dir)}"
            )
