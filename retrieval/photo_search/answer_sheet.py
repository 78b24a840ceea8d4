"""A contact sheet of photos and their answers, and where the similarities come from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.photo_search.engine import PhotoSearch
from retrieval.photo_search.found import Found
from retrieval.photo_search.prediction import headline
from retrieval.photo_search.results import Answer
from retrieval.report.result_sheet import SheetRow, contact_sheet

MAX_ANSWERS = 10  # answers of each photo


def answer_sheet(
    search: PhotoSearch, found: Sequence[Found], is_explained: bool = False
) -> Image.Image:
    """Draw each photo with its first answers in a row.

    Args:
        search: Where the answers come from.
        found: What was found, one or more.
        is_explained: Add two rows for each photo: where on the photo the similarity to each answer
            comes from, and where on the answer.

    Raises:
        InputError: The database's images are missing; or the network has no feature map to explain.
    """
    rows = []
    for of_photo in found:
        answers = of_photo.answers[:MAX_ANSWERS]
        pictures = search.images[np.array([answer.index for answer in answers], np.int64)]
        rows.append(_row(of_photo, answers, pictures))
        if is_explained and answers:
            rows += _explained(search, of_photo, answers, pictures)
    return contact_sheet(rows)


def _row(
    found: Found, answers: Sequence[Answer], pictures: np.ndarray, title: str = ""
) -> SheetRow:
    return SheetRow(
        query=found.square,
        query_name=title or headline(found.prediction),
        results=pictures,
        names=[answer.name for answer in answers],
        similarities=np.array([answer.similarity for answer in answers], np.float32),
        is_right=None,
        title=Path(found.photo).name[:20],
    )


def _explained(
    search: PhotoSearch, found: Found, answers: Sequence[Answer], pictures: np.ndarray
) -> list[SheetRow]:
    from retrieval.photo_search.explanation import overlay, similarity_maps  # imports torch

    on_photo, on_answers = [], []
    for image in pictures:
        maps = similarity_maps(search.encoder, found.square, image)
        on_photo.append(overlay(found.square, maps.of_query))
        on_answers.append(overlay(image, maps.of_answer))
    titles = ("where on the photo", "where on the answer")
    return [
        _row(found, answers, np.stack(overlays), title)
        for title, overlays in zip(titles, (on_photo, on_answers), strict=True)
    ]
