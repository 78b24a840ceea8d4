"""Write all images of an index into one array of squares.

Reads   the index csv (--image_info) and the images below --image_root_path
Writes  imageset.npy, or the name given as --mname, and its record (imageset.json)

    python -m process_data.image_matrix --dpath=~/ir/ --image_info=car_front.csv \\
        --image_root_path=Image_data/data/image/ --mname=imageset.npy
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from tqdm import tqdm

from retrieval import cli
from retrieval.data import decode, files, layout, options, provenance
from retrieval.data.formats import InputError
from retrieval.data.photo_array import (
    BLOCK,
    Crop,
    IndexedPhotos,
    OnUnreadable,
    PhotoArray,
    PhotoOptions,
    UnreadableImages,
)
from retrieval.data.shards import Shards, check_shards

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    image_info: str = layout.CAR_FRONT.name,
    image_root_path: str = PhotoOptions.image_root_path,
    mname: str = layout.IMAGE_MATRIX.name,
    image_resolution: int = PhotoOptions.image_resolution,
    filter_type: decode.Fill = PhotoOptions.filter_type,
    crop: Crop = PhotoOptions.crop,
    on_unreadable: OnUnreadable = PhotoOptions.on_unreadable,
    workers: int = PhotoOptions.workers,
    max_megapixels: int = PhotoOptions.max_megapixels,
    shards: int = 1,
    shard: int | None = None,
) -> Path:
    """Write the image matrix and return its path.

    Args:
        data_dir: The data directory.
        image_info: Index csv with the columns Path and Index; Index must run from 0 to n - 1.
        image_root_path: Folder that Path is relative to, itself relative to ``data_dir``.
        mname: Name of the array to write: (n, 3, side, side) uint8, RGB.
        image_resolution: Side of the squares in pixels.
        filter_type: Fill of the borders of images that are not square.
        crop: ``box`` crops to the columns X1, Y1, X2, Y2; images without a box stay whole.
        on_unreadable: ``stop`` lists all unreadable images and writes nothing; ``drop`` skips them
            and writes the csv that matches the matrix, ``<stem of image_info>.kept.csv``.
        workers: Threads; 0: one per core.
        max_megapixels: Largest photo, and all photos decoded at once, in millions of pixels of the
            decoded size: a JPEG is decoded at the smallest scale that suffices. A larger one counts
            as unreadable.
        shards: Number of parts; above 1, only parts that are missing are made, and all are joined
            in the end. Several machines with a shared disk can make one each.
        shard: Make only this part, from 0; None makes all that are missing.
    """
    preparing = PhotoOptions(
        image_root_path,
        image_resolution,
        filter_type,
        crop,
        on_unreadable,
        workers,
        max_megapixels,
    )
    options.check(preparing)
    check_shards(shards, shard)
    photos = IndexedPhotos.open(data_dir, image_info, preparing)
    target = layout.IMAGE_MATRIX.target(data_dir, mname)
    provenance.record_target(data_dir, mname)
    try:
        if shards > 1:
            return _write_shards(data_dir, mname, photos, shards, shard)
        write_matrix(target, photos.images)
    except UnreadableImages:
        photos = photos.readable()
        if shards > 1:
            raise InputError(
                f"name the csv of the images kept: --image_info={photos.image_info}"
            ) from None
        write_matrix(target, photos.images)
    provenance.save_record(data_dir, mname, photos.record(), layout.IMAGE_MATRIX)
    log.info("%s: %d images of %d px", target, len(photos.images), image_resolution)
    return target


def write_matrix(target: Path, images: PhotoArray) -> None:
    """Write all squares, decoded in parallel.

    Raises:
        UnreadableImages: Some cannot be read; nothing was written.
    """
    with files.row_writer(target, images.shape, "uint8") as matrix:
        _write_rows(matrix, images, range(len(images)), target.name)


def _write_rows(matrix: files.RowWriter, images: PhotoArray, rows: range, title: str) -> None:
    """Write some squares; the first of them is row 0 of the file."""
    with tqdm(total=len(rows), desc=title, unit="image", disable=None) as bar:
        for start in range(rows.start, rows.stop, BLOCK):
            block = np.arange(start, min(start + BLOCK, rows.stop))
            matrix.write(start - rows.start, images[block])
            bar.update(len(block))


def _write_shards(
    data_dir: Path, mname: str, photos: IndexedPhotos, shards: int, shard: int | None
) -> Path:
    """Write the shards that are missing, and join them if all are there."""
    path, record, images = layout.IMAGE_MATRIX.at(data_dir, mname), photos.record(), photos.images
    if _is_there(data_dir, mname, record):
        log.info("%s was made from the same csv with the same options: nothing to do", path)
        return path
    whole = Shards(path, images.shape, "uint8", shards, record)

    def write(matrix: files.RowWriter, rows: range) -> str:
        _write_rows(matrix, images, rows, f"shards of {mname}")
        return ""

    if whole.make(write, shard) is None:
        return whole.folder
    provenance.save_record(data_dir, mname, record, layout.IMAGE_MATRIX)
    whole.remove()
    log.info("%s: %d images of %d px", path, len(images), images.shape[-1])
    return path


def _is_there(data_dir: Path, mname: str, record: dict[str, Any]) -> bool:
    """Return whether the matrix is there, whole, and has this record."""
    try:
        found = provenance.load_record(data_dir, mname, layout.IMAGE_MATRIX)
    except InputError:
        return False
    return found is not None and record.items() <= found.items()


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--image_info", help="index csv with the columns Path and Index")
    parser.add_argument("--mname", help="name of the array to write")
    options.add_arguments(parser, PhotoOptions)
    parser.add_argument("--shards", type=int, help="parts to make and join; 1: the whole at once")
    parser.add_argument("--shard", type=int, help="make this part only, from 0; default: all")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
