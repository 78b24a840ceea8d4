"""A contact sheet of photos and their answers, and where the similarities come from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.photo_search.engine import PhotoSearch
from retrieval.photo_search.prediction import headline
from retrieval.photo_search.results import SearchResult
from retrieval.report.result_sheet import SheetRow, contact_sheet

MAX_ANSWERS = 10  # answers of each photo


def answer_sheet(
    search: PhotoSearch, results: Sequence[SearchResult], is_explained: bool = False
) -> Image.Image:
    """Draw each photo with its first answers in a row.

    Args:
        search: Where the answers come from: the files of a database.
        results: The results, of one photo or more.
        is_explained: Add two rows for each photo: where on the photo the similarity to each answer
            comes from, and where on the answer.

    Raises:
        InputError: The database's images are missing; or the network has no feature map to explain.
    """
    rows = []
    for result in results:
        ids = np.array([answer.id for answer in result.answers[:MAX_ANSWERS]], np.int64)
        pictures = search.files.images[ids]
        rows.append(_row(result, pictures))
        if is_explained and len(ids):
            rows += _explained(search, result, pictures)
    return contact_sheet(rows)


def _row(result: SearchResult, pictures: np.ndarray, title: str = "") -> SheetRow:
    assert result.query.square is not None
    answers = result.answers[: len(pictures)]
    return SheetRow(
        query=result.query.square,
        query_name=title or headline(result.prediction),
        results=pictures,
        names=[answer.metadata.model for answer in answers],
        similarities=np.array([answer.similarity for answer in answers], np.float32),
        is_right=None,
        title=Path(result.query.name).name[:20],
    )


def _explained(search: PhotoSearch, result: SearchResult, pictures: np.ndarray) -> list[SheetRow]:
    from retrieval.photo_search.explanation import overlay, similarity_maps  # imports torch

    square = result.query.square
    assert square is not None
    on_photo, on_answers = [], []
    for picture in pictures:
        maps = similarity_maps(search.encoder, square, picture)
        on_photo.append(overlay(square, maps.of_query))
        on_answers.append(overlay(picture, maps.of_answer))
    titles = ("where on the photo", "where on the answer")
    return [
        _row(result, np.stack(overlays), title)
        for title, overlays in zip(titles, (on_photo, on_answers), strict=True)
    ]
