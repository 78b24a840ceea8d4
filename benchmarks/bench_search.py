"""Searching with a photo: how long it takes in a large database, and how often it is right.

Writes  search.csv and search_unseen.csv in --output, and their tables in benchmarks/README.md

    make demo
    python -m process_data.calibrate --dpath=demo
    python -m benchmarks.bench_search --dpath=demo

Time: the demo's database is copied until it has --rows rows, with noise, so that no two are alike.
The command takes turns with the imports that it cannot go below. Right answers: photos that the
demo does not have are drawn, of its own models (same seed, more images) and of models that it has
never seen (another seed).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import processes, results
from benchmarks.harness import median, once
from compcars import data_info, sample
from retrieval.data import layout, provenance
from retrieval.data.decode import Box
from retrieval.evaluation.reliability import expected_calibration_error
from retrieval.photo_search.engine import PhotoSearch

IMPORTS = "import torch, torchvision, timm"
NOISE = 0.02  # of each coordinate of the copies; that of a unit vector of 512 dimensions is 0.044
PHOTOS = "Image_data/data/image"
COPIED = (layout.CLASS_NAMES, layout.CALIBRATION)


def enlarge(data_dir: Path, large: Path, n_row: int) -> None:
    """Write a data directory whose database has ``n_row`` rows, made from a real one.

    The pictures of the copies are blank: a file with holes takes no disk.
    """
    rng = np.random.default_rng(7)
    record = layout.DATABASE_RECORD.load(data_dir)
    real = np.array(layout.DATABASE.load(data_dir))
    source = record["preparation"]["index"]
    table = layout.IMAGE_INDEX.load(data_dir, source)
    copies = rng.permutation(np.resize(np.arange(len(real)), n_row))
    rows = real[copies] + NOISE * rng.standard_normal((n_row, real.shape[1]), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    table = table.sort_values("Index").iloc[copies]
    paths = [f"{i}/{path}" for i, path in enumerate(table["Path"])]
    table = table.assign(Path=paths, Index=np.arange(n_row))
    table.to_csv(layout.IMAGE_INDEX.at(large, source), index=False)
    layout.DATABASE.save(large, rows)
    changed = {"index_sha256": provenance.index_hash(table), "rows": n_row}
    provenance.save_record(large, layout.DATABASE.name, record | changed)
    side = record["preparation"]["image_resolution"]
    path = layout.IMAGE_MATRIX.at(large, record["images"])
    np.lib.format.open_memmap(path, "w+", np.uint8, (n_row, 3, side, side)).flush()
    for file in COPIED:
        if file.at(data_dir).exists():
            file.at(large).write_bytes(file.at(data_dir).read_bytes())
    _recalibrate(large)


def _recalibrate(large: Path) -> None:
    """Say that the calibration is that of the enlarged database: its time is measured, too."""
    path, record = layout.CALIBRATION.at(large), layout.DATABASE_RECORD.at(large)
    if path.exists():
        content = json.loads(path.read_text()) | {"record_sha256": provenance.sha256(record)}
        path.write_text(json.dumps(content))


def latency(data_dir: Path, model: Path, n_row: int, repeats: int, threads: int) -> results.Row:
    """Time the command for one photo, and further photos of a program that has all loaded."""
    photo = sorted((data_dir / PHOTOS).rglob("*.jpg"))[0]
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder)
        enlarge(data_dir, large, n_row)
        options = [f"--dpath={large}", f"--save_path={model}", f"--image={photo}"]
        command = [sys.executable, "-m", "process_data.search", *options]
        imports = [sys.executable, "-c", IMPORTS]
        runs: list[tuple[processes.Usage, processes.Usage]] = []
        for _ in range(repeats + 1):  # the first warms the cache of files
            runs.append((processes.run(command, threads), processes.run(imports, threads)))
        search = PhotoSearch.open(large, model)
        asked = [once(partial(search.search, photo)) for _ in range(10 * repeats + 1)]
    pairs = runs[1:]
    return {
        "rows": n_row,
        "command_s": median([run.seconds for run, _ in pairs]),
        "imports_s": median([least.seconds for _, least in pairs]),
        "beyond_imports_s": median([run.seconds - least.seconds for run, least in pairs]),
        "cpu_beyond_s": median([run.cpu_seconds - least.cpu_seconds for run, least in pairs]),
        "further_photos_s": median(asked[1:]),
        "peak_MB": max(run.peak_bytes for run, _ in pairs) / 1e6,
    }


def unseen_photos(
    data_dir: Path, drawn: Path, **changed: int
) -> Iterator[tuple[Path, int, Box | None]]:
    """Draw a sample like the demo's, and yield path, class and box of each photo it has not.

    Args:
        data_dir: The demo.
        drawn: An empty folder.
        changed: Options of ``compcars.sample`` that differ.
    """
    options = json.loads((data_dir / "Image_data" / "SAMPLE.json").read_text())["options"]
    sample.run(drawn, **options | {"others": 0, "surveillance": 1} | changed)
    data_info.run(drawn)
    known = {path.name for path in (data_dir / PHOTOS).rglob("*.jpg")}
    table = layout.CAR_FRONT.load(drawn)
    for row in table[~table["FileName"].isin(known)].itertuples():
        box = np.array([row.X1, row.Y1, row.X2, row.Y2], np.float64)
        x1, y1, x2, y2 = box.tolist()
        is_known = not np.isnan(box).any()  # else it stays whole, as in the image matrix
        yield drawn / PHOTOS / str(row.Path), int(row.Class), (x1, y1, x2, y2) if is_known else None


def accuracy(
    search: PhotoSearch, photos: list[tuple[Path, int, Box | None]], is_cropped: bool
) -> dict[str, float]:
    """Return how often answers, vote and "not in the database" are right, as shares."""
    rows, probabilities = [], []
    for path, label, box in photos:
        found = search.search(path, box if is_cropped else None)
        model = found.prediction.model
        assert model is not None
        rows.append(
            {
                "first_answer_right": found.answers[0].label == label,
                "vote_right": model.label == label,
                "not_in_database": model.is_rejected,
            }
        )
        probabilities.append(model.probability)
    shares = {str(name): float(share) for name, share in pd.DataFrame(rows).mean().items()}
    if search.calibration is None:
        return shares
    outcomes = np.array([row["vote_right"] for row in rows])
    error = expected_calibration_error(np.array(probabilities, np.float64), outcomes)
    return shares | {"ece": error}


def run(args: argparse.Namespace) -> None:
    record = results.Run("search", args, args.output)
    model = Path(layout.DATABASE_RECORD.load(args.dpath)["checkpoint"])
    if args.rows:
        record.publish(
            "search", [latency(args.dpath, model, n, args.repeats, args.threads) for n in args.rows]
        )
    search = PhotoSearch.open(args.dpath, model)
    options = json.loads((args.dpath / "Image_data" / "SAMPLE.json").read_text())["options"]
    kinds = {
        "models of the database": {"images": options["images"] + args.images},
        "other models": {"seed": options["seed"] + 1, "images": args.images},
    }
    rows: list[results.Row] = []
    for kind, changed in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            photos = list(unseen_photos(args.dpath, Path(folder), **changed))
            if kind == "other models":
                photos = [(path, -1, box) for path, _, box in photos]
            for part, is_cropped in (("cropped to the car", True), ("whole", False)):
                about = {"unseen_photos_of": kind, "photo": part, "photos": len(photos)}
                rows.append(about | accuracy(search, photos, is_cropped))
    record.publish("search_unseen", rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--dpath", type=Path, default=Path("demo"), help="what make demo wrote")
    add("--rows", type=int, nargs="*", default=[100_000], help="rows of the databases to time")
    add("--repeats", type=int, default=5, help="runs of the command")
    add("--images", type=int, default=12, help="unseen photos of each model")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
