"""Write all images of an index into one array of squares.

Reads   the index csv (--image_info) and the images below --image_root_path
Writes  imageset.npy, or the name given as --mname, and its record (imageset.json)

    python -m process_data.image_matrix --dpath=~/ir/ --image_info=car_front.csv \\
        --image_root_path=Image_data/data/image/ --mname=imageset.npy
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from tqdm import tqdm

from retrieval import cli
from retrieval.data import decode, files, image_index, layout, pixel_budget, provenance
from retrieval.data.formats import InputError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

Crop = Literal["none", "box"]
OnUnreadable = Literal["stop", "drop"]

BLOCK = 256  # images in flight; bounds the memory


def run(
    data_dir: Path,
    image_info: str = layout.CAR_FRONT.name,
    image_root_path: str = "Image_data/data/image/",
    mname: str = layout.IMAGE_MATRIX.name,
    image_resolution: int = 224,
    filter_type: decode.Fill = "Gaussian",
    crop: Crop = "none",
    on_unreadable: OnUnreadable = "stop",
    workers: int = 0,
    max_megapixels: int = pixel_budget.MEGAPIXELS,
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
    """
    for name, value in (("image_resolution", image_resolution), ("max_megapixels", max_megapixels)):
        if value < 1:
            raise InputError(f"--{name} must be at least 1; got {value}")
    budget = pixel_budget.PixelBudget(max_megapixels)
    table = image_index.by_index(layout.IMAGE_INDEX.load(data_dir, image_info), image_info)
    root = data_dir / Path(image_root_path).expanduser()
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder; --image_root_path must name the folder of the images"
        )
    boxes = _boxes(table, image_info) if crop == "box" else [None] * len(table)
    paths = [root / path for path in table["Path"]]
    target = layout.IMAGE_MATRIX.target(data_dir, mname)
    provenance.record_target(data_dir, mname)
    rows = np.arange(len(paths))
    try:
        write_matrix(target, paths, boxes, image_resolution, filter_type, workers, budget)
    except UnreadableImages as error:
        for row, reason in error.reasons.items():
            log.warning("cannot be read: %s (%s)", paths[row], reason)
        if on_unreadable == "stop":
            raise InputError(
                f"{len(error.reasons)} of {len(paths)} images of {image_info} cannot be read "
                "(listed above), nothing was written; restore them or use --on_unreadable=drop"
            ) from None
        rows = np.setdiff1d(rows, list(error.reasons))
        if not len(rows):
            raise InputError(f"no image of {image_info} below {root} can be read") from None
        paths, boxes = [paths[row] for row in rows], [boxes[row] for row in rows]
        write_matrix(target, paths, boxes, image_resolution, filter_type, workers, budget)
        table = table.iloc[rows]
        image_info = _save_kept(data_dir, image_info, table)
    record = {
        "index": image_info,
        "index_sha256": provenance.index_hash(table),
        "image_root_path": image_root_path,
        "image_resolution": image_resolution,
        "filter_type": filter_type,
        "crop": crop,
    }
    provenance.save_record(data_dir, mname, record, layout.IMAGE_MATRIX)
    log.info("%s: %d images of %d px", target, len(rows), image_resolution)
    return target


class UnreadableImages(Exception):
    """Some images cannot be read.

    Attributes:
        reasons: Row -> error message, in row order.
    """

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__(f"{len(reasons)} images cannot be read")
        self.reasons = reasons


def write_matrix(
    target: Path,
    paths: Sequence[Path],
    boxes: Sequence[decode.Box | None],
    side: int,
    fill: decode.Fill,
    workers: int = 0,
    budget: pixel_budget.PixelBudget = decode.SHARED_BUDGET,
) -> None:
    """Write row i of ``target`` from ``paths[i]``, in parallel.

    Raises:
        UnreadableImages: Lists all unreadable images; nothing was written.
    """
    reasons: dict[int, str] = {}
    # sched_getaffinity counts only the cores that a container may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with (
        files.row_writer(target, (len(paths), 3, side, side), "uint8") as matrix,
        ThreadPoolExecutor(workers or cores) as pool,
        tqdm(total=len(paths), desc=target.name, unit="image", disable=None) as bar,
    ):

        def write_row(row: int) -> None:
            try:
                square = decode.load_square(paths[row], side, fill, boxes[row], budget)
            except decode.UnreadableImage as error:
                reasons[row] = str(error)
            else:
                matrix.write(row, square.transpose(2, 0, 1)[None])

        for start in range(0, len(paths), BLOCK):
            for _ in pool.map(write_row, range(start, min(start + BLOCK, len(paths)))):
                bar.update()
        if reasons:
            raise UnreadableImages(dict(sorted(reasons.items())))


def _boxes(table: "pd.DataFrame", name: str) -> list[decode.Box | None]:
    corners = ["X1", "Y1", "X2", "Y2"]
    if not set(corners) <= set(table.columns):
        raise InputError(f"{name} has no columns X1, Y1, X2, Y2; use --crop=none")
    try:
        values = table[corners].to_numpy(np.float64)
    except ValueError as error:
        raise InputError(f"{name}: a column of {', '.join(corners)} holds text ({error})") from None
    if np.isinf(values).any():
        line = int(np.flatnonzero(np.isinf(values).any(axis=1))[0]) + 2
        raise InputError(f"{name}: the box in line {line} is infinite; correct or empty it")
    return [None if np.isnan(box).any() else (box[0], box[1], box[2], box[3]) for box in values]


def _save_kept(data_dir: Path, image_info: str, kept: "pd.DataFrame") -> str:
    """Write the csv of the images that were kept, and return its name."""
    name = f"{Path(image_info).stem}.kept.csv"
    path = layout.IMAGE_INDEX.save(data_dir, kept.assign(Index=np.arange(len(kept))), name)
    log.warning(
        "%s lists the %d images kept, with new Indexes: use it from now on "
        "(make_train_valid --iname=%s, or mask_data --tindex=%s)",
        path,
        len(kept),
        name,
        name,
    )
    return name


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--image_info", help="index csv with the columns Path and Index")
    parser.add_argument("--image_root_path", help="folder of the images, relative to --dpath")
    parser.add_argument("--mname", help="name of the array to write")
    parser.add_argument("--image_resolution", type=int, help="side of the squares in pixels")
    parser.add_argument("--filter_type", choices=decode.FILLS, help="fill of the borders")
    parser.add_argument("--crop", choices=get_args(Crop), help="box: crop to the boxes of the csv")
    parser.add_argument(
        "--on_unreadable",
        choices=get_args(OnUnreadable),
        help="unreadable images: stop and list them, or drop them and write the matching csv",
    )
    parser.add_argument("--workers", type=int, help="threads; 0: one per core")
    parser.add_argument(
        "--max_megapixels",
        type=int,
        help="largest photo, and all photos decoded at once, in millions of decoded pixels",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
