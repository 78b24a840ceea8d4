"""A contact sheet of photos and their answers, and where the similarities come from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.asking.answers import Answer, Found, percent
from retrieval.asking.engine import PhotoSearch
from retrieval.data import layout
from retrieval.report.result_sheet import SheetRow, contact_sheet

MOST = 10  # answers of each photo


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
        InputError: The image matrix is missing; or, explained, the network has no feature map.
    """
    images = layout.IMAGE_MATRIX.load(search.data_dir, search.record["images"])
    rows = []
    for of_photo in found:
        answers = of_photo.answers[:MOST]
        rows.append(_row(of_photo, answers, images[[answer.index for answer in answers]]))
        if is_explained and answers:
            rows += _explained(search, of_photo, answers, images)
    return contact_sheet(rows)


def _row(
    found: Found, answers: Sequence[Answer], pictures: np.ndarray, title: str = ""
) -> SheetRow:
    name = "not in the database" if found.vote is None else found.vote.name
    return SheetRow(
        query=found.square,
        query_name=title or name,
        results=pictures,
        names=[answer.name for answer in answers],
        similarities=np.array([answer.similarity for answer in answers], np.float32),
        is_right=None,
        title=Path(found.photo).name[:20],
        values=[_value(answer) for answer in answers],
    )


def _value(answer: Answer) -> str:
    text = f"{answer.similarity:.3f}"
    return text if answer.probability is None else f"{text}   {percent(answer.probability)}"


def _explained(
    search: PhotoSearch, found: Found, answers: Sequence[Answer], images: np.ndarray
) -> list[SheetRow]:
    from retrieval.asking.explanation import overlay, similarity_maps  # imports torch

    on_photo, on_answers = [], []
    for answer in answers:
        image = np.array(images[answer.index])
        maps = similarity_maps(search.encoder, found.square, image)
        on_photo.append(overlay(found.square, maps.of_query))
        on_answers.append(overlay(image, maps.of_answer))
    titles = ("where on the photo", "where on the answer")
    return [
        _row(found, answers, np.stack(pictures), title)
        for title, pictures in zip(titles, (on_photo, on_answers), strict=True)
    ]
