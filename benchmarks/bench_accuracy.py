"""Accuracy of trained models and of untrained baselines, on the same data and seeds.

Writes  accuracy.csv (one row per seed) and accuracy_table.csv (median and spread) in --output

    python -m benchmarks.bench_accuracy --best="--recipe=ce --epoch=20"

Trained: the default command, the best recipe (--best), and the objective of the original: tuples,
no temperature, no augmentation. Untrained: raw pixels, color histograms, and ImageNet features if
the weights are installed.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import imagenet, results
from benchmarks.pipeline import VALID, Pipeline
from retrieval.data import layout
from retrieval.evaluation.records import evaluation_file

QUERIES = {"validation": "valid", "surveillance": "test"}
METRICS = ("cmc@1", "map@R", "map")
UNTRAINED = {"raw pixels": "pixels", "color histogram": "histogram"}


def measured(data_dir: Path, search: str) -> dict[str, float]:
    """Return the metrics of the last evaluation with this search."""
    found: dict[str, float] = {}
    for name, queries in QUERIES.items():
        record = layout.EVALUATION.load(data_dir, evaluation_file(f"{search}-{queries}"))
        found |= {f"{name}_{metric}": record[metric] for metric in METRICS}
    return found


def use_features(data_dir: Path) -> None:
    """Replace the embeddings by ImageNet features."""
    pairs = ((layout.IMAGE_MATRIX, layout.DATABASE), (layout.TEST_MATRIX, layout.TEST_DATABASE))
    for images, embeddings in pairs:
        embeddings.save(data_dir, imagenet.features(images.load(data_dir)))
        embeddings.at(data_dir).with_suffix(".json").unlink(missing_ok=True)


def measure(data_dir: Path, seed: int, args: argparse.Namespace) -> list[results.Row]:
    """Evaluate all methods on one sample."""
    pipeline = Pipeline(
        data_dir,
        seed,
        models=args.models,
        photos=args.photos,
        surveillance=args.photos // 3,
        side=args.side,
        training=args.common,
        threads=args.threads,
    )
    pipeline.prepare()
    default = f"{args.tuples} {args.default}"
    trained = {
        "original's objective": f"{args.tuples} {args.original}",
        "default": default,
        "default, --no-frozen_bn": f"{default} --no-frozen_bn" if args.trained_bn else None,
        f"best: {args.best}": args.best,
    }
    rows: list[results.Row] = []

    def add(method: str, search: str, seconds: float | None = None) -> None:
        row = {"seed": seed, "method": method, "train_s": seconds}
        rows.append({**row, **measured(data_dir, search)})
        print(rows[-1], flush=True)

    for method, options in trained.items():
        if options is None:
            continue
        _, seconds = pipeline.train(options)
        pipeline.search()
        add(method, "mips", seconds)
    pipeline.run("-m process_data.baselines")
    pipeline.run("-m process_data.baselines", VALID)
    for method, search in UNTRAINED.items():
        add(method, search)
    if missing := imagenet.missing():
        print(f"no ImageNet features: {', '.join(missing)} not installed", flush=True)
    else:
        use_features(data_dir)
        pipeline.search()
        add("ImageNet features, EfficientNet-Lite0", "mips")
    return rows


def summary(rows: list[results.Row]) -> list[results.Row]:
    """Return one row per method: the median over the seeds ± half the range."""
    table = pd.DataFrame(rows)
    lines: list[results.Row] = []
    for method, group in table.groupby("method", sort=False):
        line: dict[str, object] = {"method": method, "train_s": group["train_s"].median()}
        for column in table.columns[3:]:
            values = group[column].to_numpy(np.float64)
            half = (values.max() - values.min()) / 2
            line[column] = f"{np.median(values):.3f} ± {half:.3f}"
        lines.append(line)
    return lines


def run(args: argparse.Namespace) -> None:
    """Evaluate all seeds and publish the tables."""
    record = results.Run("accuracy", args, args.output)
    rows: list[results.Row] = []
    with tempfile.TemporaryDirectory() as name:
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            rows += measure((args.samples or Path(name)) / f"seed{seed}", seed, args)
    record.publish("accuracy", rows)
    record.publish("accuracy_table", summary(rows))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--models", type=int, default=24, help="models per sample")
    add(
        "--photos",
        type=int,
        default=60,
        help="front photos per model; a third as many surveillance images",
    )
    add("--side", type=int, default=64, help="side of the squares in pixels")
    add("--seeds", type=int, default=3, help="number of seeds of sample, split and training")
    add("--first_seed", type=int, default=7, help="first seed; the others follow it")
    add(
        "--common",
        default="--arch=resnet18 --weights=none --dim=128",
        help="train.py options of all methods; a method's own options override them",
    )
    add(
        "--tuples",
        default="--batch_size=16 --epoch=2 --lr=0.0003 --max_tuples=4000",
        help="train.py options of the methods that train on tuples",
    )
    add(
        "--original",
        default="--temperature=1 --augmentation=none --no-frozen_bn",
        help="train.py options of the original's objective",
    )
    add("--default", default="", help="train.py options of the default method")
    add("--trained_bn", action="store_true", help="also train the default with its batch norms")
    add("--best", help="train.py options of the best recipe, without --tuples; left out: skip it")
    add("--samples", type=Path, help="folder to keep the data in; default: a temporary folder")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
