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
from dataclasses import asdict
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from retrieval import cli
from retrieval.data import decode, files, layout, options, provenance, sources
from retrieval.data.decoded_photos import (
    Crop,
    DecodedPhotos,
    IndexedPhotos,
    OnUnreadable,
    PhotoOptions,
    UnreadableImages,
)
from retrieval.data.formats import InputError
from retrieval.data.matrix_job import MatrixJob, write_squares
from retrieval.data.shards import Engine, check_shards

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
    engine: Engine = "local",
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
        workers: Threads; 0: as --threads.
        max_megapixels: Largest photo, and all photos decoded at once, in millions of pixels of the
            decoded size: a JPEG is decoded at the smallest scale that suffices. A larger one counts
            as unreadable.
        shards: Number of parts; above 1, only parts that are missing are made, and all are joined
            in the end. Several machines with a shared disk can make one each.
        shard: Make only this part, from 0; None makes all that are missing.
        engine: Where parts are made: ``local`` or ``ray``, as tasks of a Ray cluster.
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
    check_shards(shards, shard, engine)
    photos = IndexedPhotos.open(data_dir, image_info, preparing)
    target = layout.IMAGE_MATRIX.target(data_dir, mname)
    provenance.record_target(data_dir, mname)
    sources.warn_stale(data_dir, image_info, photos=True)
    record = photos.record()
    try:
        if shards > 1:
            job = MatrixJob(data_dir, mname, image_info, preparing, shards)
            return _write_shards(job, shard, engine)
        write_matrix(target, photos.images)
    except UnreadableImages:
        made_by, asked = "python -m process_data.image_matrix", asdict(preparing)
        photos = photos.readable(made_by, {"image_info": image_info, "mname": mname, **asked})
        if shards > 1:
            raise InputError(
                f"name the csv of the images kept: --image_info={photos.image_info}"
            ) from None
        record = photos.record()
        write_matrix(target, photos.images)
    provenance.save_record(data_dir, mname, record, layout.IMAGE_MATRIX)
    log.info("%s: %d images of %d px", target, len(photos.images), image_resolution)
    return target


def write_matrix(target: Path, images: DecodedPhotos) -> None:
    """Write all squares, decoded in parallel.

    Raises:
        UnreadableImages: Some cannot be read; nothing was written.
    """
    with files.row_writer(target, images.shape, "uint8") as matrix:
        write_squares(matrix, images, range(len(images)), target.name)


def _write_shards(job: MatrixJob, shard: int | None, engine: Engine) -> Path:
    """Write the shards that are missing, and join them if all are there."""
    from retrieval.compute.make_shards import make_shards

    whole = make_shards(job, engine, shard)
    if whole.is_done:
        log.info("%s was made from the same csv with the same options: nothing to do", job.target)
        return job.target
    if whole.lacks_some():
        return whole.folder
    whole.join()
    provenance.save_record(job.data_dir, job.mname, whole.record, layout.IMAGE_MATRIX)
    whole.remove()
    log.info("%s: %d images of %d px", job.target, whole.shape[0], whole.shape[-1])
    return job.target


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--image_info", help="index csv with the columns Path and Index")
    parser.add_argument("--mname", help="name of the array to write")
    options.add_arguments(parser, PhotoOptions)
    cli.add_shard_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
