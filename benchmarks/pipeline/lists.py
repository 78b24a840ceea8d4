"""Time and memory of listing the CompCars images and of drawing the training tuples.

Writes  index.csv in --output

    python -m benchmarks.pipeline.lists
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import measured_process, results
from benchmarks.timing import by_turns, median, spread

N_LABEL, N_MODEL, N_MAKE = 136_726, 1_716, 163  # web-nature images of CompCars
N_FRONT, N_CLASS = 67_732, 1_714  # its front images and their models


def class_sizes(n_image: int, n_class: int, rng: np.random.Generator) -> np.ndarray:
    """Return (n_class,) uneven sizes (gamma distribution, shape 2) with the sum ``n_image``."""
    ends = np.cumsum(rng.gamma(2.0, size=n_class))
    ends = np.round(ends / ends[-1] * (n_image - n_class)).astype(int)
    return 1 + np.diff(ends, prepend=0)


def write_tree(folder: Path, n_label: int, n_model: int, n_make: int) -> None:
    """Write a web-nature tree with labels and empty images."""
    rng = np.random.default_rng(7)
    root = folder / "Image_data" / "data"
    viewpoints = rng.choice(
        [-1, 1, 2, 3, 4, 5], p=[0.01, 0.13, 0.13, 0.14, 0.36, 0.23], size=n_label
    )
    number = 0
    for model, size in enumerate(class_sizes(n_label, n_model, rng)):
        for year, count in enumerate(np.diff(np.linspace(0, size, 4).astype(int))):
            part = f"{model % n_make + 1}/{model + 1}/{2010 + year}"
            for kind in ("image", "label"):
                (root / kind / part).mkdir(parents=True, exist_ok=True)
            for _ in range(count):
                stem = f"{number * 0x9E3779B97F4A7 % 16**14:014x}"
                (root / "image" / part / f"{stem}.jpg").touch()
                text = f"{viewpoints[number]}\n1\n12 34 856 567\n"
                (root / "label" / part / f"{stem}.txt").write_text(text)
                number += 1


def write_csv(folder: Path, n_image: int, n_class: int) -> None:
    """Write a ``car_front.csv`` with classes of uneven size."""
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(n_class), class_sizes(n_image, n_class, rng)) + 1
    index = np.arange(n_image)
    table = pd.DataFrame({"Path": [f"{i}.jpg" for i in index], "Class": labels, "Index": index})
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "car_front.csv", index=False)


def measure(stage: str, folder: Path, repeats: int) -> results.Row:
    """Run a stage repeatedly, on one core."""
    peaks: list[int] = []

    def once() -> float:
        usage = measured_process.run([sys.executable, "-m", stage, f"--dpath={folder}"], threads=1)
        peaks.append(usage.peak_bytes)
        return usage.seconds

    seconds = by_turns({stage: once}, repeats)[stage]
    return {
        "seconds": median(seconds),
        "spread_%": spread(seconds),
        "peak_MB": max(peaks) / 1e6,
    }


def labels_row(folder: Path, scale: float, repeats: int) -> results.Row:
    """Measure the listing of a freshly written tree, ``scale`` times the size of CompCars."""
    n_label, n_model = round(scale * N_LABEL), max(4, round(scale * N_MODEL))
    write_tree(folder, n_label, n_model, min(N_MAKE, n_model))
    measured = measure("compcars.data_info", folder, repeats)
    listed = [len(pd.read_csv(folder / name)) for name in ("car_front.csv", "car_rear.csv")]
    return {
        "stage": "compcars.data_info",
        "images": n_label,
        "classes": n_model,
        **measured,
        "written": sum(listed),
    }


def split_row(folder: Path, factor: float, repeats: int) -> results.Row:
    """Measure the split of ``factor`` times the front images and classes of CompCars."""
    n_image, n_class = round(factor * N_FRONT), max(4, round(factor * N_CLASS))
    write_csv(folder, n_image, n_class)
    measured = measure("process_data.make_train_valid", folder, repeats)
    n_tuple = 2 * len(np.load(folder / "train.npy", mmap_mode="r"))
    return {
        "stage": "process_data.make_train_valid",
        "images": n_image,
        "classes": n_class,
        **measured,
        "written": n_tuple,
    }


def run(args: argparse.Namespace) -> None:
    """Measure both stages and publish the table."""
    record = results.Run("index", args, args.output)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rows.append(labels_row(Path(folder), args.labels, args.repeats))
    for factor in args.splits:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(split_row(Path(folder), factor, args.repeats))
    record.publish("index", rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--labels", type=float, default=1.0, help="share of CompCars' labels")
    parser.add_argument(
        "--splits", type=float, nargs="+", default=[1.0, 10.0], help="multiples of CompCars"
    )
    parser.add_argument("--repeats", type=int, default=5, help="measurements after the warm-up")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
