"""List the front and rear web-nature images of CompCars.

Reads   Image_data/data/image/, Image_data/data/label/, misc/make_model_name.mat
Writes  car_front.csv (viewpoints 1 and 4), car_rear.csv (viewpoints 2 and 5), class_names.csv

    python -m compcars.data_info --dpath=~/ir/
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from tqdm import tqdm

from compcars import names, tree
from retrieval import cli
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.data.sources import save_list_record, states

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

FRONT = (1, 4)
REAR = (2, 5)
THREADS = 8  # that read labels
COLUMNS = ["Path", "FileName", "View Point", "Year", "CarMake", "Class", "X1", "Y1", "X2", "Y2"]


def web_images(root: Path) -> "tuple[pd.DataFrame, Counter[str]]":
    """Read every label below ``root``.

    Args:
        root: Folder with ``image/`` and ``label/``.

    Returns:
        The table of labeled images, and the number of skipped images by reason. The table has the
        columns of ``car_front.csv`` except Index, and one row per image, sorted by make, model,
        year (as numbers) and file name.
    """
    import pandas as pd

    years = [
        year
        for make in tree.numbered_folders(root / "image")
        for model in tree.numbered_folders(make)
        for year in tree.year_folders(model)
    ]
    rows: list[tuple[Any, ...]] = []
    left_out: Counter[str] = Counter()
    with ThreadPoolExecutor(THREADS) as pool:  # a disk, or the network, answers many at once
        found = pool.map(partial(_labels, root), years)
        for some, skipped in tqdm(found, "labels", len(years), unit="folder", disable=None):
            rows += some
            left_out += skipped
    return pd.DataFrame(rows, columns=COLUMNS), left_out


def _labels(root: Path, year: Path) -> tuple[list[tuple[Any, ...]], Counter[str]]:
    """Return the rows of a year folder's images, and the number of skipped ones by reason."""
    make, model = year.parts[-3:-1]
    part = f"{make}/{model}/{year.name}"
    rows: list[tuple[Any, ...]] = []
    left_out: Counter[str] = Counter()
    for name in tree.jpegs(year):
        try:
            label = tree.read_label(f"{root}/label/{part}/{name.rpartition('.')[0]}.txt")
        except FileNotFoundError:
            left_out["without a label file"] += 1
            continue
        except (ValueError, IndexError, OSError):
            left_out["with a label file that cannot be read"] += 1
            continue
        box = label.box or (None,) * 4
        where = f"{part}/{name}", name, label.viewpoint, year.name, int(make), int(model)
        rows.append((*where, *box))
    return rows, left_out


def of_viewpoints(images: "pd.DataFrame", viewpoints: tuple[int, ...]) -> "pd.DataFrame":
    """Return the rows of the given viewpoints, with a new Index from 0."""
    chosen = images[images["View Point"].isin(viewpoints)].reset_index(drop=True)
    chosen["Index"] = chosen.index.astype("int64")
    columns = list(layout.CAR_FRONT.columns)
    # Nullable integers: a missing value is an empty cell, and 12 is not written as 12.0.
    return chosen[columns].astype(dict.fromkeys(columns[-4:], "Int64"))


def run(data_dir: Path) -> Path:
    """Write the three csv files and return the path of ``car_front.csv``."""
    root = tree.web_root(data_dir)
    images, left_out = web_images(root)
    if images.empty:
        raise InputError(f"{root / 'image'} has no image with a label; is it unpacked?")
    front, rear = of_viewpoints(images, FRONT), of_viewpoints(images, REAR)
    makes = dict(zip(images["Class"].tolist(), images["CarMake"].tolist(), strict=True))
    class_names = names.class_names(root, makes)
    if class_names is not None:
        layout.CLASS_NAMES.save(data_dir, class_names)
    layout.CAR_REAR.save(data_dir, rear)
    path = layout.CAR_FRONT.save(data_dir, front)
    origins = states(data_dir, root / "image")
    for file in (layout.CAR_REAR, layout.CAR_FRONT):
        made_by = "python -m compcars.data_info"
        save_list_record(data_dir, file.at(data_dir), made_by, {}, origins)
    _log_counts(images, left_out)
    for name, chosen in ((layout.CAR_FRONT.name, front), (layout.CAR_REAR.name, rear)):
        log.info("%s: %d images of %d models", name, len(chosen), chosen["Class"].nunique())
    relative = (root / "image").relative_to(data_dir)
    log.info("pass --image_root_path=%s/ to process_data.image_matrix", relative.as_posix())
    return path


def _log_counts(images: "pd.DataFrame", left_out: Counter[str]) -> None:
    log.info(
        "%d images, %d models, %d makes",
        len(images),
        images["Class"].nunique(),
        images["CarMake"].nunique(),
    )
    for viewpoint, name in tree.VIEWPOINTS.items():
        count = int((images["View Point"] == viewpoint).sum())
        kept = "" if viewpoint in FRONT + REAR else " (in neither csv)"
        log.info("  viewpoint %2d, %-10s %7d%s", viewpoint, name, count, kept)
    log.info("  without a usable box: %d (kept, box left empty)", images["X1"].isna().sum())
    for reason, count in left_out.items():
        log.warning("  skipped, %s: %d", reason, count)


def make_parser() -> argparse.ArgumentParser:
    return cli.stage_parser(run, __doc__)


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
