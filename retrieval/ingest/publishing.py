"""Publish a database: turn it into rows and write them to a store."""

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from retrieval.data import decode, layout, provenance, sources
from retrieval.data.decoded_photos import boxes_of
from retrieval.data.formats import InputError
from retrieval.data.jpeg import thumbnail
from retrieval.ingest.added_photos import CarriedPhotos, added_rows, are_comparable
from retrieval.photo_search.compatibility import found_checkpoint
from retrieval.photo_search.database_files import DatabaseFiles
from retrieval.store.backends import open_store
from retrieval.store.base import ImageStore, NoStore
from retrieval.store.name_lookup import classes_of_models
from retrieval.store.rows import FIRST_PHOTO_ID, Collection, ImageRow
from retrieval.threads import worker_threads

log = logging.getLogger(__name__)

BATCH = 8192  # images in one transaction; bounds the memory


def publish_database(
    data_dir: Path,
    database: str,
    image_root_path: str | None,
    store: str,
    save_path: Path | None = None,
) -> int:
    """Publish as ``process_data.publish`` does; return the number of new images."""
    source = load_source(data_dir, database, image_root_path)
    started = time.perf_counter()
    try:
        target = open_store(data_dir, store)
    except NoStore:
        target = open_store(data_dir, store, create=Collection(source.files.record))
    with target:
        if is_of(target, source.files.record, source.states):
            n_new, more = _add_missing(target, source), ""
        else:
            n_new, more = _renew(data_dir, target, source, save_path)
        target.mark_published(source.states)
        if n_new:
            target.optimize()
        log.info(
            "%s: %d images published in %.1f s, %d were there%s; it holds %d",
            target.name,
            n_new,
            time.perf_counter() - started,
            len(source) - n_new,
            more,
            target.count(),
        )
    return n_new


def is_of(target: ImageStore, record: dict[str, Any], states: dict[str, str]) -> bool:
    """Return whether the published rows of a store, as far as they are in, are of a database.

    Args:
        target: The store.
        record: The record of the database.
        states: `published_states` of the database.
    """
    mine, theirs = (
        {name: value for name, value in of.items() if name != "checkpoint"}  # a mere path
        for of in (target.collection.record, record)
    )
    return mine == theirs and target.published() in (None, states)


def published_states(data_dir: Path, database: str, record: dict[str, Any]) -> dict[str, str]:
    """Return the states of the files that the rows of a store are made from (`data.sources`).

    Args:
        data_dir: The data directory.
        database: Name of the embeddings.
        record: Their record.
    """
    names = (record["preparation"]["index"], layout.CLASS_NAMES.name)
    there = [name for name in names if (data_dir / name).is_file()]
    return {database: record["content"], **sources.states(data_dir, *there)}


def _add_missing(target: ImageStore, source: "DatabaseRows") -> int:
    """Add the images that a store does not have; return how many these were."""
    numbers = np.setdiff1d(np.arange(len(source)), target.ids())
    with tqdm(total=len(numbers), desc=target.name, unit="image", disable=None) as bar:
        for rows in row_batches(source, numbers):
            target.add(rows)
            bar.update(len(rows))
    return len(numbers)


def _renew(
    data_dir: Path, target: ImageStore, source: "DatabaseRows", save_path: Path | None
) -> tuple[int, str]:
    """Replace one database by another; added photos stay.

    Args:
        data_dir: The data directory.
        target: The store.
        source: The database.
        save_path: The checkpoint that encoded it; None looks for it.

    Returns:
        Images of the database, and what to say of the added photos.
    """
    new = Collection(source.files.record)
    carried = CarriedPhotos(
        added_rows(target),
        are_comparable(target.collection, new),
        source.files.record,
        found_checkpoint(data_dir, source.files.record, save_path),
        source.root,
        classes_of_models(source.files.facets()),
    )
    carried.check(target.name)
    numbers = np.arange(len(source))
    published: set[str] = set()

    def batches() -> Iterator[list[ImageRow]]:
        with tqdm(total=len(numbers), desc=target.name, unit="image", disable=None) as bar:
            for rows in row_batches(source, numbers):
                published.update(row.sha256 for row in rows)
                yield rows
                bar.update(len(rows))
        yield from carried.batches(published)

    n_removed = _removed(target)
    log.info("%s is of another database: renewing it", target.name)
    target.renew(new, batches())
    more = f", added photos kept: {carried.n_kept}" if carried.n_kept else ""
    if carried.n_from_thumbnail:
        more += f" ({carried.n_from_thumbnail} encoded from thumbnails, as their files are gone)"
    if n_removed:
        more += f", images back that were removed before: {n_removed}"
    return len(numbers), more


def _removed(target: ImageStore) -> int:
    """Return how many images were removed from a store in which all were."""
    n_published = int((target.ids() < FIRST_PHOTO_ID).sum())
    known = target.collection.record.get("rows", n_published)
    return 0 if target.published() is None else int(known) - n_published


@dataclass(frozen=True)
class DatabaseRows:
    """The rows to publish.

    Attributes:
        files: The database.
        states: `published_states` of the database.
        boxes: The box of the car in each image file; None where there is none.
        root: Folder of the image files.
    """

    files: DatabaseFiles
    states: dict[str, str]
    boxes: list[decode.Box | None]
    root: Path

    def __len__(self) -> int:
        return len(self.files.gallery)

    def row(self, number: int) -> ImageRow:
        """Return the row of an image; read its file and make its thumbnail."""
        path = self.files.table.paths[number]
        return ImageRow(
            id=number,
            embedding=self.files.gallery[number],
            sha256=provenance.sha256(self.root / path),
            **self.files.table.metadata(number)._asdict(),
            box=self.boxes[number],
            path=path,
            thumbnail=thumbnail(self.files.images[np.array([number])][0]),
        )


def load_source(data_dir: Path, database: str, image_root_path: str | None) -> DatabaseRows:
    """Load what is published, and check that it belongs together."""
    files = DatabaseFiles.open(data_dir, database)
    record, table = files.record, files.table
    if len(files.images) != len(files.gallery):
        raise InputError(f"{record['images']} and {database} have different numbers of images")
    root = data_dir / Path(image_root_path or record["preparation"]["image_root_path"]).expanduser()
    missing = next((path for path in table.paths if not (root / path).is_file()), None)
    if missing is not None:
        raise InputError(
            f"{root / missing} is missing; name the folder of the images with --image_root_path"
        )
    _check_photos(data_dir, database, record)
    index = layout.IMAGE_INDEX.load(data_dir, table.source).sort_values("Index")
    boxes = boxes_of(index, table.source) or [None] * len(index)
    return DatabaseRows(files, published_states(data_dir, database, record), boxes, root)


def _check_photos(data_dir: Path, database: str, record: dict[str, Any]) -> None:
    """Refuse embeddings of photos that have changed since; warn of other outdated files."""
    matrix = record.get("images")
    prepared = sources.load_record_unchecked(data_dir, matrix) if matrix else record
    if sources.photos_have_changed(data_dir, prepared):
        raise InputError(
            f"photos of {record['preparation']['index']} have changed since {matrix or database} "
            f"was made from them; type: {sources.commands_to_renew(data_dir, database)}"
        )
    sources.warn_stale(data_dir, database)


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
