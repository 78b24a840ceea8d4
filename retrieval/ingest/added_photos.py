"""Carry photos that were added to a store over to a store of another database."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data import provenance
from retrieval.data.formats import InputError
from retrieval.data.jpeg import thumbnail
from retrieval.photo_search.preprocessing import Preprocessing
from retrieval.store.base import ImageStore
from retrieval.store.filters import Filter
from retrieval.store.name_lookup import class_and_make
from retrieval.store.rows import FIRST_PHOTO_ID, Collection, ImageRow

if TYPE_CHECKING:
    from retrieval.photo_search.query_encoder import QueryEncoder

AT_ONCE = 64  # photos that are encoded together


def added_rows(store: ImageStore) -> list[ImageRow]:
    """Return the rows of the photos that were added, not published."""
    ids = store.ids(Filter())
    return store.get(ids[ids >= FIRST_PHOTO_ID].tolist())


@dataclass
class CarriedPhotos:
    """Rows of added photos as they belong into a store of another database.

    Attributes:
        rows: The rows as they were.
        is_comparable: Whether their embeddings can stay: same model, same preprocessing.
        record: The record of the other database.
        checkpoint: The checkpoint that encoded it, for photos whose embeddings cannot stay.
        root: Folder of the image files, for paths that are relative.
        known: Model -> class and make, in the other database.
        n_kept: Photos that were carried over.
        n_from_thumbnail: Of these, those encoded from their thumbnails, as the files are gone.
    """

    rows: Sequence[ImageRow]
    is_comparable: bool
    record: dict[str, Any]
    checkpoint: Path | None
    root: Path
    known: dict[str, tuple[int, str]]
    n_kept: int = 0
    n_from_thumbnail: int = 0

    def check(self, store: str) -> None:
        """Refuse photos that must be encoded again without the model.

        Args:
            store: The store's name, for the message.
        """
        if self.rows and not self.is_comparable and self.checkpoint is None:
            raise InputError(
                f"{store} has {len(self.rows)} photos that were added, to be encoded anew, and "
                f"{self.record.get('checkpoint')} is not there any more; name the checkpoint that "
                "encoded the database with --save_path"
            )

    def batches(self, published: set[str]) -> Iterator[list[ImageRow]]:
        """Yield the rows, without photos that are in the other database itself.

        Args:
            published: SHA-256 of each of its image files.
        """
        rows = [self._named(row) for row in self.rows if row.sha256 not in published]
        self.n_kept = len(rows)
        if self.is_comparable or not rows:
            yield from ([rows] if rows else ())
            return
        from retrieval.photo_search.query_encoder import QueryEncoder  # imports torch

        assert self.checkpoint is not None
        encoder = QueryEncoder.load(self.checkpoint, self.record)
        for start in range(0, len(rows), AT_ONCE):
            yield self._encoded(rows[start : start + AT_ONCE], encoder)

    def _named(self, row: ImageRow) -> ImageRow:
        """Return a row with the class and the make that its model has in the other database."""
        if not row.model:
            return row
        label, make = class_and_make(row.model, self.known)
        return replace(row, label=label, make=make or row.make)

    def _encoded(self, rows: Sequence[ImageRow], encoder: "QueryEncoder") -> list[ImageRow]:
        prepared = [self._prepared(row) for row in rows]
        embeddings = encoder.embed(np.stack([square for _, square in prepared]))
        return [
            replace(row, embedding=embedding)
            for (row, _), embedding in zip(prepared, embeddings, strict=True)
        ]

    def _prepared(self, row: ImageRow) -> tuple[ImageRow, np.ndarray]:
        """Return a row with its new thumbnail, and its square: from the file, if that is there."""
        preprocessing = Preprocessing.of_record(self.record, "the database")
        path = self.root / row.path
        if row.path and path.is_file() and provenance.sha256(path) == row.sha256:
            box = row.box if preprocessing.crop == "box" else None
            square = preprocessing.square(path, box, str(path))
            return replace(row, thumbnail=thumbnail(square)), square
        self.n_from_thumbnail += 1
        return row, preprocessing.square(io.BytesIO(row.thumbnail), None, f"thumbnail of {row.id}")


def are_comparable(old: Collection, new: Collection) -> bool:
    """Return whether embeddings of two collections can be compared."""
    try:
        old.check_same(new, "")
    except InputError:
        return False
    return True
