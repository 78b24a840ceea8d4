"""Add photos to a store, encoded by the model that made the database.

Reads   the photos (--image), the checkpoint, store/ or the store named as --store
Writes  the same store

    python -m process_data.add --dpath=~/ir/ --save_path=~/ir/para/model.ep0 --image=new_photos/

A photo that the store has, by the hash of its file, is left out. In a folder, sub-folders name the
models, or make, model and year as in process_data.data_info. A csv has the column Path and any of
Class, ClassName, Make, Model, Year, View Point and the box of the car: X1, Y1, X2, Y2.
"""

import argparse
import io
import logging
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

import numpy as np
from tqdm import tqdm

from retrieval import cli
from retrieval.compute import devices
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.data.jpeg import thumbnail
from retrieval.ingest.new_photos import NewPhoto, listed_photos
from retrieval.photo_search.compatibility import check_model
from retrieval.photo_search.preprocessing import Preprocessing
from retrieval.store.backends import STORE_HELP, open_store
from retrieval.store.base import ImageStore
from retrieval.store.photo_ids import new_photo_ids
from retrieval.store.rows import ImageRow, sha256_of_bytes
from retrieval.threads import worker_threads

if TYPE_CHECKING:
    from retrieval.photo_search.query_encoder import QueryEncoder

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    save_path: Path,
    image: Sequence[Path],
    batch_size: int = 64,
    store: str = layout.STORE.name,
    device: str = "auto",
) -> list[int]:
    """Add photos and return the ids of those that were new.

    Args:
        data_dir: The data directory.
        save_path: The checkpoint that encoded the database.
        image: Photos, folders of photos and csv files.
        batch_size: Photos that are encoded together and added in one transaction.
        store: A folder, the address of a Milvus server or a file of Milvus Lite.
        device: auto, cpu, cuda or cuda:n.

    Raises:
        InputError: No photo can be read. Some that cannot be are said in a line each, and counted.
    """
    if batch_size < 1:
        raise InputError(f"--batch_size must be at least 1; got {batch_size}")
    added: list[int] = []
    n_unreadable = 0
    with open_store(data_dir, store) as target:
        record = target.collection.record
        preprocessing = Preprocessing.of_record(record, target.name, data_dir)
        check_model(data_dir, record, save_path, layout.DATABASE.name, store)
        photos = listed_photos(image, target)
        from retrieval.photo_search.query_encoder import QueryEncoder  # imports torch

        encoder = QueryEncoder.load(save_path, record, device)
        with tqdm(total=len(photos), desc=target.name, unit="photo", disable=None) as bar:
            for start in range(0, len(photos), batch_size):
                batch = photos[start : start + batch_size]
                ids, unreadable = add_photos(target, batch, preprocessing, encoder)
                added += ids
                n_unreadable += unreadable
                bar.update(len(batch))
        if added:
            target.optimize()
        log.info(
            "%s: %d photos added, %d were there, %d cannot be read; it holds %d",
            target.name,
            len(added),
            len(photos) - len(added) - n_unreadable,
            n_unreadable,
            target.count(),
        )
        if photos and n_unreadable == len(photos):
            raise InputError("none of the photos can be read (listed above): nothing was added")
    return added


def add_photos(
    store: ImageStore,
    photos: Sequence[NewPhoto],
    preprocessing: Preprocessing,
    encoder: "QueryEncoder",
) -> tuple[list[int], int]:
    """Add some photos in one transaction.

    Args:
        store: The store.
        photos: What to add.
        preprocessing: How the images of the database were prepared.
        encoder: The model that encoded them.

    Returns:
        The ids of the photos that were new, and how many photos cannot be read.
    """

    def read(photo: NewPhoto) -> tuple[NewPhoto, str, np.ndarray] | None:
        try:
            content = photo.file.read_bytes()
            box = photo.box if preprocessing.crop == "box" else None
            square = preprocessing.square(io.BytesIO(content), box, str(photo.file))
        except (OSError, InputError) as error:
            log.warning("%s", error)
            return None
        return photo, sha256_of_bytes(content), square

    with ThreadPoolExecutor(worker_threads()) as pool:
        loaded = [found for found in pool.map(read, photos) if found is not None]
    ids = new_photo_ids(store, (sha256 for _, sha256, _ in loaded))
    of_hash = {sha256: (photo, square) for photo, sha256, square in loaded if sha256 in ids}
    if of_hash:
        embeddings = encoder.embed(np.stack([square for _, square in of_hash.values()]))
        rows = [
            _row(ids[sha256], sha256, photo, square, embedding)
            for (sha256, (photo, square)), embedding in zip(
                of_hash.items(), embeddings, strict=True
            )
        ]
        store.add(rows)
    return list(ids.values()), len(photos) - len(loaded)


def _row(
    number: int, sha256: str, photo: NewPhoto, square: np.ndarray, embedding: np.ndarray
) -> ImageRow:
    return ImageRow(
        id=number,
        embedding=embedding,
        sha256=sha256,
        **photo.metadata._asdict(),
        box=photo.box,
        path=str(photo.file.absolute()),
        thumbnail=thumbnail(square),
    )


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument(
        "--save_path",
        type=cli.user_path,
        required=True,
        help="the checkpoint that encoded the database",
    )
    parser.add_argument(
        "--image",
        type=cli.user_path,
        nargs="+",
        required=True,
        help="photos, folders of photos, csv files",
    )
    parser.add_argument("--batch_size", type=int, help="photos added in one transaction")
    parser.add_argument("--store", help=STORE_HELP)
    parser.add_argument("--device", help=devices.DEVICE_HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
