"""A database as the rows of a store, and the work of putting them into it."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from retrieval.asking.catalogue import Catalogue, load_catalogue
from retrieval.asking.engine import check_comparable
from retrieval.asking.preparation import Preparation
from retrieval.data import decode, layout, provenance
from retrieval.data.formats import InputError
from retrieval.data.joined import Images
from retrieval.data.photo_array import boxes_of
from retrieval.report.retrieval_results import images_of
from retrieval.store.interface import ImageStore
from retrieval.store.opening import open_store
from retrieval.store.rows import Collection, ImageRow
from retrieval.store.thumbnails import thumbnail
from retrieval.threads import worker_threads

log = logging.getLogger(__name__)

BATCH = 8192  # images in one transaction; bounds the memory


def publish_database(data_dir: Path, database: str, image_root_path: str | None, store: str) -> int:
    """Do what ``process_data.publish`` says of these options; return how many images were new."""
    source = load_source(data_dir, database, image_root_path)
    started = time.perf_counter()
    with open_store(data_dir, store, create=Collection(source.record)) as target:
        _check_same_images(target, source.record, database)
        numbers = np.setdiff1d(np.arange(len(source.embeddings)), target.ids())
        with tqdm(total=len(numbers), desc=target.name, unit="image", disable=None) as bar:
            for rows in row_batches(source, numbers):
                target.add(rows)
                bar.update(len(rows))
        if len(numbers):
            target.optimize()
        log.info(
            "%s: %d images published in %.1f s, %d were there; it holds %d",
            target.name,
            len(numbers),
            time.perf_counter() - started,
            len(source.embeddings) - len(numbers),
            target.count(),
        )
    return len(numbers)


def publish_if_missing(data_dir: Path, database: str, store: str) -> None:
    """Publish a database into a store that does not exist or has no rows; say so in one line."""
    try:
        with open_store(data_dir, store) as target:
            if target.count():
                return
    except InputError:
        if not layout.DATABASE.at(data_dir, database).exists():
            raise
    log.info("%s has no images yet: publishing %s", store, database)
    publish_database(data_dir, database, None, store)


@dataclass(frozen=True)
class DatabaseRows:
    """What is published.

    Attributes:
        record: The record of the embeddings.
        embeddings: (n_image, dim) float32.
        images: (n_image, 3, side, side) uint8, what they were made from.
        catalogue: What is known of the images.
        boxes: The box of the car in each image file; None where there is none.
        root: Folder of the image files.
    """

    record: dict[str, Any]
    embeddings: np.ndarray
    images: Images
    catalogue: Catalogue
    boxes: list[decode.Box | None]
    root: Path

    def row(self, number: int) -> ImageRow:
        """Return the row of an image; read its file and make its thumbnail."""
        known, label = self.catalogue, int(self.catalogue.labels[number])
        return ImageRow(
            id=number,
            embedding=self.embeddings[number],
            sha256=provenance.sha256(self.root / known.paths[number]),
            label=label,
            make=known.makes.get(label, ""),
            model=known.name(label),
            year="" if known.years is None else known.years[number],
            viewpoint="" if known.viewpoints is None else known.viewpoints[number],
            box=self.boxes[number],
            path=known.paths[number],
            thumbnail=thumbnail(self.images[np.array([number])][0]),
        )


def load_source(data_dir: Path, database: str, image_root_path: str | None) -> DatabaseRows:
    """Load what is published, and check that it belongs together."""
    embeddings = layout.DATABASE.load(data_dir, database)
    record = provenance.load_record(data_dir, database) or {}
    Preparation.of_record(record, database)
    check_comparable(record, database)
    catalogue = load_catalogue(data_dir, record, database)
    images = images_of(data_dir, record, layout.IMAGE_MATRIX)
    if len(images) != len(embeddings):
        raise InputError(f"{record['images']} and {database} have different numbers of images")
    root = data_dir / Path(image_root_path or record["preparation"]["image_root_path"]).expanduser()
    missing = next((path for path in catalogue.paths if not (root / path).is_file()), None)
    if missing is not None:
        raise InputError(
            f"{root / missing} is missing; name the folder of the images with --image_root_path"
        )
    table = layout.IMAGE_INDEX.load(data_dir, catalogue.source).sort_values("Index")
    boxes = boxes_of(table, catalogue.source) or [None] * len(table)
    return DatabaseRows(record, embeddings, images, catalogue, boxes, root)


def row_batches(source: DatabaseRows, numbers: np.ndarray) -> Iterator[list[ImageRow]]:
    """Yield the rows of some images; the next are made while the caller stores the last."""
    starts = range(0, len(numbers), BATCH)
    with ThreadPoolExecutor(worker_threads()) as pool:
        batches = (pool.map(source.row, numbers[i : i + BATCH].tolist()) for i in starts)
        ahead = next(batches, None)
        while ahead is not None:
            rows = list(ahead)
            ahead = next(batches, None)
            yield rows


def _check_same_images(target: ImageStore, record: dict[str, Any], database: str) -> None:
    ours = target.collection.record.get("images_sha256")
    if ours != record.get("images_sha256"):
        raise InputError(
            f"{target.name} holds another list of images than {database}, so ids differ; "
            "add photos with process_data.add, name another --store, or remove this one"
        )
