"""The README's commands on a drawn sample, and the amount of work of each."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from compcars import sample

SECONDS_PER_DRAWING = 0.15  # on one core at 480x320, measured once; for the forecast only
SURVEILLANCE = "--image_info=tindexinfo.csv --image_root_path=Image_data/sv_data/image/"


@dataclass(frozen=True)
class Settings:
    """Options of the stages.

    Attributes:
        side: Side of the image matrix in pixels.
        arch: Backbone.
        steps: Training steps.
        batch_size: Tuples per step.
        photos: Front photos per model in the sample; also --min_len, so no class is minor.
    """

    side: int = 64
    arch: str = "resnet18"
    steps: int = 20
    batch_size: int = 16
    photos: int = 60


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: Module name, with the kind of images if the module runs twice.
        arguments: Arguments after ``python``, without ``--dpath``.
        unit: Unit of the work.
        work: Counts the work from the files in the data directory, after the command has run.
    """

    name: str
    arguments: str
    unit: str
    work: Callable[[Path], int]

    def command(self, data_dir: Path) -> list[str]:
        arguments = self.arguments.replace("DPATH", str(data_dir)).split()
        return [sys.executable, *arguments, f"--dpath={data_dir}"]

    @property
    def help_command(self) -> list[str]:
        """A command that only starts, imports and parses the options."""
        words = self.arguments.split()
        return [sys.executable, *words[: 2 if words[0] == "-m" else 1], "-h"]


def rows_of(*names: str) -> Callable[[Path], int]:
    """Return a function that counts the rows of arrays and tables in a data directory."""

    def count(data_dir: Path) -> int:
        total = 0
        for name in names:
            path = data_dir / name
            is_table = path.suffix == ".csv"
            total += len(pd.read_csv(path)) if is_table else len(np.load(path, mmap_mode="r"))
        return total

    return count


def stages(settings: Settings) -> list[Stage]:
    """Return the stages in the order of the README, evaluated on the test queries."""
    side = f"--image_resolution={settings.side}"
    n_tuple = settings.steps * settings.batch_size
    train = (
        f"train.py --save_path=DPATH/para --epoch=1 --batch_size={settings.batch_size} "
        f"--max_tuples={n_tuple} --arch={settings.arch} --weights=none"
    )
    encode = f"build_image_db.py --save_path=DPATH/para/model.ep0 --arch={settings.arch}"
    queries = "--input=test_image.npy --output=tdatabase.npy"
    split = f"-m process_data.make_train_valid --min_len={settings.photos}"
    matrix = f"-m process_data.image_matrix {side}"
    database = rows_of("imageset.npy")
    watched = rows_of("test.npy")

    def pairs(data_dir: Path) -> int:
        return rows_of("test_masked.npy")(data_dir) * rows_of("database_masked.npy")(data_dir)

    front = "car_front.csv"
    watch_matrix = f"{matrix} {SURVEILLANCE} --mname=test_image.npy"
    todo: list[tuple[str, str, str, Callable[[Path], int]]] = [
        ("data_info", "-m compcars.data_info", "images", rows_of(front, "car_rear.csv")),
        ("test_data_info", "-m compcars.test_data_info", "images", watched),
        ("image_matrix", matrix, "images", database),
        ("image_matrix, queries", watch_matrix, "images", watched),
        ("make_train_valid", split, "tuples", rows_of("train.npy", "train2.npy")),
        ("train", train, "tuples", lambda _: n_tuple),
        ("build_image_db", encode, "images", database),
        ("build_image_db, queries", f"{encode} {queries}", "images", watched),
        ("mask_data", "-m process_data.mask_data", "images", database),
        ("mips", "-m process_data.mips", "comparisons", pairs),
        ("nns", "-m process_data.nns --dimension=32", "images", database),
        ("baselines", "-m process_data.baselines", "images", database),
    ]
    return [Stage(*stage) for stage in todo]


def draw_sample(folder: Path, n_image: int, photos: int, size: tuple[int, int] = (480, 320)) -> int:
    """Draw a sample of about ``n_image`` images unless it exists; return its number of images.

    Args:
        folder: The data directory.
        n_image: Web and surveillance images together.
        photos: Front photos per model. In addition, there are a tenth as many from the rear and
            the side, and a third as many surveillance images for five of six models.
        size: Width and height of a photo in pixels.
    """
    others, watched = photos // 10, max(1, photos // 3)
    models = max(2, round(n_image / (photos + others + watched * 5 / 6)))
    root = sample.run(folder, models, photos, others, watched, width=size[0], height=size[1])
    return sum(1 for _ in root.rglob("*.jpg"))


def clear(data_dir: Path) -> None:
    """Remove all files except the images."""
    for path in data_dir.iterdir():
        if path.name == "Image_data":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def sizes_of_files(data_dir: Path) -> dict[Path, tuple[int, int]]:
    """Return modification time (ns) and size (bytes) of every file except the images."""
    found = {}
    for path in data_dir.rglob("*"):
        if path.is_file() and "Image_data" not in path.parts:
            status = path.stat()
            found[path] = status.st_mtime_ns, status.st_size
    return found
