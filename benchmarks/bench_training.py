"""Compare objectives and recipes at equal data, backbone, image size and processor time.

Reads   --dpath, a data directory with imageset.npy, the split, test_image.npy and test.npy
Writes  training_<name>.csv (appended) and training_<name>.md in --output

    python -m benchmarks.bench_training --dpath=~/cars/ --name=cars --budget_s=45
    python -m benchmarks.bench_training --speed    # runs benchmarks.bench_training_speed

Each seed holds out other classes and initializes new weights, at random or from --weights. The
budget is the processor time of this process at a fixed number of threads: wall-clock time would be
unfair on a shared machine. All objectives use about the same number of images per step, and every
recipe runs through its whole learning rate schedule within the budget. --tune tries several
learning rates per objective instead; use it on another sample than the reported one. --rates then
takes the best rates from the newest run in the csv of --tune.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import bench_training_speed, results
from benchmarks.harness import versions
from retrieval import cli
from retrieval.compute import devices
from retrieval.data import layout, provenance
from retrieval.model import backbones
from retrieval.model import pretrained as first_weights
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.encode import embed
from retrieval.model.model_config import ModelConfig
from retrieval.training.config import RecipeName, TrainingConfig
from retrieval.training.dataset import TrainingData
from retrieval.training.recipes import RECIPES, resolve_config
from retrieval.training.step_loader import StepInput
from retrieval.training.trainer import Trainer
from retrieval.training.validation import retrieve, validate_on_new_classes

MICRO_BATCH = 1_000  # no step is split
DIM = 128
IMAGES = 64  # images per step
TUPLES = 10  # tuples per step: up to 60 distinct images, padded to 64


def _recipe(name: RecipeName, **changes: Any) -> TrainingConfig:
    return resolve_config(TrainingConfig(recipe=name, **changes))


_TUPLE = _recipe("original", batch_size=TUPLES, frozen_bn=False)
_ORIGINAL = replace(_TUPLE, temperature=1.0, augmentation="none")
_CE = _recipe("ce", batch_size=IMAGES)
ORIGINAL = "original's objective: tuples, T=1, inputs in [0, 1]"
UNTRAINED = "no training, a random projection"
OBJECTIVES = {
    UNTRAINED: _TUPLE,
    ORIGINAL: _ORIGINAL,
    "recipe original: tuples, T=0.1": _TUPLE,
    "recipe original, batch negatives": replace(_TUPLE, negatives="batch"),
    # The recipe vit itself has another backbone, and a learning rate that fits it.
    "recipe vit, this backbone": _recipe("vit", batch_size=IMAGES, lr=1e-4, frozen_bn=False),
    **{
        f"recipe {name}": _recipe(name, batch_size=IMAGES)
        for name in RECIPES
        if name not in ("original", "vit")
    },
    "recipe ce, surveillance augmentation": replace(_CE, augmentation="surveillance"),
    # How much of the difference is due to the loss, and how much to the batch norms?
    "recipe original, batch negatives, frozen batch norms": replace(
        _TUPLE, negatives="batch", frozen_bn=True
    ),
    "recipe ce, trained batch norms": replace(_CE, frozen_bn=False),
}
# These use the learning rate of the objective they are compared with.
RATE_OF = {
    "recipe original, batch negatives, frozen batch norms": "recipe original, batch negatives",
    "recipe ce, trained batch norms": "recipe ce",
}
FACTORS = (1.0, 3.0, 10.0)  # factors on the learning rate that --tune tries


@dataclass(frozen=True)
class Result:
    """One trained model."""

    objective: str
    lr: float
    seed: int
    budget_s: float
    steps: int
    images: int
    new_cmc1: float
    new_map_r: float
    camera_cmc1: float
    camera_map_r: float


def train(
    name: str, options: TrainingConfig, data: TrainingData, args: argparse.Namespace, seed: int
) -> tuple[EmbeddingModel, int, int]:
    """Train for the budget; return the model and the numbers of steps and images."""
    budget_s = 0 if name == UNTRAINED else args.budget_s
    torch.manual_seed(seed)
    mean, std = backbones.normalization(args.arch) if name != ORIGINAL else ((0.0,) * 3, (1.0,) * 3)
    side = data.images.shape[-1]
    config = ModelConfig(args.arch, DIM, side, mean, std, options.pool, options.neck)
    model = EmbeddingModel(config)
    origin = first_weights.initialize(model, args.weights)
    if options.frozen_bn and not origin.startswith(first_weights.RANDOM):
        model.freeze_norms()
    model.to(memory_format=torch.channels_last).train()
    dtype = devices.compute_dtype(torch.device("cpu"), "auto")
    trainer = Trainer(replace(options, seed=seed, micro_batch=MICRO_BATCH), data, model, dtype)
    steps, images = 0, 0
    if not budget_s:
        return model, steps, images
    start = time.process_time()
    for given in _endless(trainer):
        used = (time.process_time() - start) / budget_s
        if used >= 1:
            break
        trainer.step(given, used * options.epoch)
        steps, images = steps + 1, images + given.n
    return model, steps, images


def _endless(trainer: Trainer) -> Iterator[StepInput]:
    """Yield the steps of one epoch after another, endlessly."""
    for epoch in itertools.count():
        yield from trainer.batches(epoch)


def judge(model: EmbeddingModel, data: TrainingData, data_dir: Path) -> tuple[float, ...]:
    """Return cmc@1 and map@R on the held-out classes, then on the test queries."""
    dtype = devices.compute_dtype(torch.device("cpu"), "auto")
    new = validate_on_new_classes(model, data, 64, dtype)
    queries = np.array(layout.TEST_QUERIES.load(data_dir))
    test = layout.TEST_MATRIX.load(data_dir)
    database = embed(model, data.images, np.arange(len(data.images)), 64, dtype)
    watched = embed(model, test, queries[:, 0], 64, dtype)
    camera = retrieve(watched, queries[:, 1], database, data.labels)
    return (*new.values(), *camera.values())


def measure(args: argparse.Namespace) -> Iterator[Result]:
    """Train and evaluate each objective with each seed."""
    data = TrainingData.load(args.dpath)
    tuned = results.latest(args.rates.parent, args.rates.stem) if args.rates else None
    rates = {} if tuned is None else best_rates(tuned)
    for seed in args.seeds:
        known = data.hold_out(args.holdout_classes, seed)
        for name, options in OBJECTIVES.items():
            if args.only and not any(part in name for part in args.only):
                continue
            for factor in FACTORS if args.tune else (1.0,):
                chosen = replace(
                    options, lr=factor * rates.get(RATE_OF.get(name, name), options.lr)
                )
                model, steps, images = train(name, chosen, known, args, seed)
                found = judge(model, known, args.dpath)
                yield Result(name, chosen.lr, seed, args.budget_s, steps, images, *found)


def best_rates(tuned: pd.DataFrame) -> dict[str, float]:
    """Return the learning rate of each objective with the best map@R on held-out classes."""
    means = tuned.groupby(["objective", "lr"])["new_map_r"].mean()
    return {str(name): means[name].idxmax() for name in means.index.get_level_values(0).unique()}


def table(found: list[Result]) -> str:
    """Return a Markdown table: means over seeds ± half the range."""
    lines = [
        "| objective | lr | steps | images seen | new classes: cmc@1 | map@R "
        "| other camera: cmc@1 | map@R |",
        "|---|---|---|---|---|---|---|---|",
    ]
    frame = pd.DataFrame([asdict(result) for result in found])
    for (name, lr), rows in frame.groupby(["objective", "lr"], sort=False):
        cells = [
            f"{rows[c].mean():.3f} ± {(rows[c].max() - rows[c].min()) / 2:.3f}"
            for c in ("new_cmc1", "new_map_r", "camera_cmc1", "camera_map_r")
        ]
        counts = f"{rows['steps'].mean():.0f} | {rows['images'].mean():.0f}"
        lines.append(f"| {name} | {lr:g} | {counts} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> None:
    """Measure; rewrite the table after each model, and append the results at the end."""
    record = results.Run("training", args, args.output)
    torch.set_num_threads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    images = layout.IMAGE_MATRIX.load(args.dpath)
    side, n_class = images.shape[-1], len(layout.CLASS_IMAGES.load(args.dpath))
    header = (
        f"{provenance.processor()}; {versions()}.\n\n{len(images)} images of {n_class} classes at "
        f"{side} px, {args.holdout_classes:g} of the classes held out; {args.arch} from "
        f"{_origin(args.weights)}, {DIM} dimensions, {args.budget_s:g} s of processor time on "
        f"{args.threads} thread(s) per model. Mean over seeds {args.seeds} ± half the range."
    )
    found: list[Result] = []
    path = args.output / f"training_{args.name}.md"
    for result in measure(args):
        print(result, flush=True)
        found.append(result)
        path.write_text(f"{header}\n\n{table(found)}\n", encoding="utf-8")
    record.append(f"training_{args.name}", [asdict(result) for result in found])


def _origin(weights: str) -> str:
    if weights == "none":
        return "random weights (no ImageNet weights)"
    return f"the weights {Path(weights).name}"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dpath", type=cli.data_directory, required=True, help="data directory")
    add("--name", required=True, help="suffix of the result files")
    add("--arch", default="resnet18", help="backbone")
    add("--weights", default="none", help="initial weights, as in train.py")
    add("--budget_s", type=float, default=45.0, help="processor time per model, in seconds")
    add("--threads", type=int, default=1, help="torch threads")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of holdout and weights")
    add("--holdout_classes", type=float, default=0.2, help="share or number of held-out classes")
    add("--only", nargs="+", help="objectives whose name contains one of these texts")
    add("--tune", action="store_true", help=f"try each learning rate times {FACTORS}")
    add("--rates", type=Path, help="csv of a run with --tune: take the best learning rates")
    add("--output", type=Path, default=results.FOLDER, help="results folder")
    return parser


if __name__ == "__main__":
    if "--speed" in sys.argv:
        rest = [word for word in sys.argv[1:] if word != "--speed"]
        bench_training_speed.run(bench_training_speed.make_parser().parse_args(rest))
    else:
        run(make_parser().parse_args())
