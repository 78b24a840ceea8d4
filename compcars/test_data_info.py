"""List the surveillance images of CompCars, with the web-nature model id as class.

Reads   Image_data/sv_data/image/, sv_make_model_name.mat, {train,test}_surveillance.txt
Writes  tindexinfo.csv, test.npy; with --split=train, camera_index.csv instead

    python -m compcars.test_data_info --dpath=~/ir/

CompCars divides these images. To train on one part and to test on the other:

    python -m compcars.test_data_info --dpath=~/ir/ --split=test
    python -m compcars.test_data_info --dpath=~/ir/ --split=train
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

import numpy as np

from compcars import tree
from retrieval import cli
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.data.mat_reader import read_mat
from retrieval.data.sources import save_list_record, states

log = logging.getLogger(__name__)


def web_model_ids(mat: Path) -> np.ndarray:
    """Return the web-nature model id of each surveillance folder.

    Args:
        mat: ``sv_make_model_name.mat``: a (281, 3) cell array of make, model and web model id; row
            i belongs to folder i + 1. The dtype of the id varies by row: uint8 or uint16.

    Returns:
        (n_folder,) int64.
    """
    (cells,) = read_mat(mat, "sv_make_model_name")
    try:
        return np.array([int(row[2]) for row in cells], np.int64)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{mat} is not CompCars' {mat.name}; unpack it again") from error


def all_images(root: Path) -> list[str]:
    """Return ``folder/file`` of every image, sorted by folder number and file name."""
    folders = tree.numbered_folders(root / "image")
    return [f"{folder.name}/{image}" for folder in folders for image in tree.jpegs(folder)]


def images_of(root: Path, split: str) -> list[str]:
    """Return ``folder/file`` of every existing image of a split, in the same order."""
    images = all_images(root)
    if split == "all":
        return images
    listing = root / f"{split}_surveillance.txt"
    if not listing.is_file():
        raise InputError(f"{listing} is missing; unpack it, or use --split=all")
    listed = set(listing.read_text(encoding="ascii").split())
    missing = listed.difference(images)
    if missing:
        log.warning("skipped, listed in %s but missing: %d", listing.name, len(missing))
    return [path for path in images if path in listed]


def run(data_dir: Path, split: str = "all") -> Path:
    """Write the index of a split and return its path.

    Args:
        data_dir: The data directory.
        split: ``all`` or ``test`` write ``tindexinfo.csv`` and ``test.npy``, the queries;
            ``train`` writes ``camera_index.csv``, images to train on (``train.py --cameras``).
    """
    import pandas as pd

    root = tree.surveillance_root(data_dir)
    images = images_of(root, split)
    if not images:
        raise InputError(f"{root / 'image'} has no image of the split {split!r}")
    model_ids = web_model_ids(root / "sv_make_model_name.mat")
    folders = np.array([int(path.split("/")[0]) for path in images])
    if not 1 <= folders.min() <= folders.max() <= len(model_ids):
        raise InputError(
            f"{root / 'image'} has folders {folders.min()} to {folders.max()}, "
            f"but sv_make_model_name.mat has rows for 1 to {len(model_ids)}"
        )
    classes = model_ids[folders - 1]
    index = np.arange(len(images), dtype=np.int64)
    table = pd.DataFrame({"Path": images, "Index": index, "Class": classes})
    if split == "train":
        path = layout.CAMERA_INDEX.save(data_dir, table)
    else:
        layout.TEST_QUERIES.save(data_dir, np.stack([index, classes], axis=1))
        path = layout.TEST_INDEX.save(data_dir, table)
    listed = [root / f"{split}_surveillance.txt"] if split != "all" else []
    origins = states(data_dir, root / "image", root / "sv_make_model_name.mat", *listed)
    made_by = "python -m compcars.test_data_info"
    save_list_record(data_dir, path, made_by, {"split": split}, origins)
    log.info(
        "%s: %d surveillance images of %d models", path.name, len(images), len(np.unique(classes))
    )
    relative = (root / "image").relative_to(data_dir)
    log.info("pass --image_root_path=%s/ to process_data.image_matrix", relative.as_posix())
    return path


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument(
        "--split", choices=("all", "train", "test"), help="images: all, or those of one list"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
