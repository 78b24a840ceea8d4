"""Accuracy of a search with photos that neither training nor database has seen.

Writes  search_unseen.csv in --output

    make demo
    python -m process_data.calibrate --dpath=demo
    python -m benchmarks.search.unseen_photos --dpath=demo

Photos that the demo does not have are drawn: of its own models (same seed, more images) and of
models that are not in the database (another seed).
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import results
from compcars import data_info, sample
from retrieval.data import layout
from retrieval.data.decode import Box
from retrieval.evaluation.reliability import expected_calibration_error
from retrieval.photo_search.engine import PhotoSearch

PHOTOS = "Image_data/data/image"


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
                "first_answer_right": found.answers[0].metadata.label == label,
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
    """Search with both kinds of photos, cropped and whole, and publish the table."""
    record = results.Run("search_unseen", args, args.output)
    model = Path(layout.DATABASE_RECORD.load(args.dpath)["checkpoint"])
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
    add("--dpath", type=Path, default=Path("demo"), help="the data directory of make demo")
    add("--images", type=int, default=12, help="unseen photos of each model")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
