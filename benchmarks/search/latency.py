"""Time of a search with one photo in a large database.

Writes  search.csv in --output

    make demo
    python -m process_data.calibrate --dpath=demo
    python -m benchmarks.search.latency --dpath=demo

The demo's database is copied until it has --rows rows, with noise, so that no two are alike. The
command takes turns with the imports that it cannot go below.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import measured_process, results
from benchmarks.timing import median, once
from retrieval.data import layout, provenance
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
    """Mark the calibration as that of the enlarged database, so that its time counts."""
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
        runs: list[tuple[measured_process.Usage, measured_process.Usage]] = []
        for _ in range(repeats + 1):  # the first warms the cache of files
            runs.append(
                (measured_process.run(command, threads), measured_process.run(imports, threads))
            )
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


def run(args: argparse.Namespace) -> None:
    """Measure all database sizes and publish the table."""
    record = results.Run("search", args, args.output)
    model = Path(layout.DATABASE_RECORD.load(args.dpath)["checkpoint"])
    rows = [latency(args.dpath, model, n, args.repeats, args.threads) for n in args.rows]
    record.publish("search", rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--dpath", type=Path, default=Path("demo"), help="the data directory of make demo")
    add("--rows", type=int, nargs="+", default=[100_000], help="rows of the databases to time")
    add("--repeats", type=int, default=5, help="runs of the command")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
