"""Compare objectives at equal data, trunk, image size and processor time, from random weights.

Reads   --dpath, a data directory with imageset.npy, the split, test_image.npy and test.npy
Writes  training_<name>.csv and training_<name>.md in --output

    python -m benchmarks.bench_training --dpath=~/cars/ --name=cars --budget_s=45

Each seed holds other classes out and starts from other weights. The budget is the processor time of
this process, whose threads are stated: by the clock on the wall, a shared machine would be unfair.
Learning rates run through their whole schedule within the budget. With --tune, each objective is
tried at several learning rates instead: on another sample than the one to be reported.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.harness import versions
from retrieval import cli, devices, layout, provenance, trainer, trunks
from retrieval.encode import embed
from retrieval.feeding import StepInput, step_inputs
from retrieval.model import EmbeddingModel, ModelConfig
from retrieval.training_data import TrainingData
from retrieval.training_options import Recipe
from retrieval.validation import retrieve, validate_on_new_classes

MICRO_BATCH = 1_000  # no step is divided
DIM = 128
OURS = Recipe("benchmark", dim=DIM, schedule="cosine", warmup=0.1, epoch=1, clip=10.0, lr=1e-3)
TUPLES = replace(OURS, batch_size=16, lr=3e-4)  # about 80 distinct images in a step
PK = replace(OURS, sampler="pk", images_per_class=4)
CE = replace(OURS, loss="ce", neck="after")

ORIGINAL = "original: tuples, T=1, inputs in [0, 1]"
OBJECTIVES = {
    ORIGINAL: Recipe("benchmark", dim=DIM, temperature=1.0, batch_size=16, lr=3e-4),
    "tuples, T=0.1": TUPLES,
    "tuples, T=0.1, batch negatives": replace(TUPLES, negatives="batch"),
    "ce, BN neck": CE,
    "arcface": replace(OURS, loss="arcface", logit_scale=16.0, margin=14.3, proxy_lr=10.0),
    "proxy_anchor": replace(OURS, loss="proxy_anchor", proxy_lr=100.0),
    "supcon, P x K": replace(PK, loss="supcon"),
    "ms, P x K": replace(PK, loss="ms"),
    "ce+triplet, P x K": replace(PK, loss="ce+triplet", neck="after"),
    "ce, BN neck, surveillance augmentation": replace(CE, augmentation="surveillance"),
}
TUNED = (3e-4, 1e-3, 3e-3)  # learning rates that --tune tries


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
    recipe: Recipe, data: TrainingData, is_normalized: bool, args: argparse.Namespace, seed: int
) -> tuple[EmbeddingModel, int, int]:
    """Train for the budget; return the model, its steps and the images it saw."""
    torch.manual_seed(seed)
    mean, std = trunks.normalization(args.arch) if is_normalized else ((0.0,) * 3, (1.0,) * 3)
    side = data.images.shape[-1]
    config = ModelConfig(args.arch, DIM, side, mean, std, recipe.pool, recipe.neck)
    model = EmbeddingModel(config).to(memory_format=torch.channels_last).train()
    dtype = devices.compute_dtype(torch.device("cpu"), "auto")
    session = trainer.make(recipe, data, model, micro_batch=MICRO_BATCH, dtype=dtype, seed=seed)
    start, steps, images = time.process_time(), 0, 0
    for given in _inputs(session, data.images):
        used = (time.process_time() - start) / args.budget_s
        if used >= 1:
            break
        session.step(given, used * recipe.epoch)
        steps, images = steps + 1, images + given.n
    return model, steps, images


def _inputs(session: trainer.Trainer, images: np.ndarray) -> Iterator[StepInput]:
    """Yield the steps of one epoch after the other, without end."""
    for epoch in itertools.count():
        batches, kind = iter(session.source.epoch(epoch)), session.recipe.augmentation
        yield from step_inputs(images, batches, kind, session.device, (session.seed, epoch))


def judge(model: EmbeddingModel, data: TrainingData, data_dir: Path) -> tuple[float, ...]:
    """Return cmc@1 and map@R on held-out classes, then on the queries of the other camera."""
    dtype = devices.compute_dtype(torch.device("cpu"), "auto")
    new = validate_on_new_classes(model, data, 64, dtype)
    queries = np.array(layout.TEST_QUERIES.load(data_dir))
    test = layout.TEST_MATRIX.load(data_dir)
    database = embed(model, data.images, np.arange(len(data.images)), 64, dtype)
    watched = embed(model, test, queries[:, 0], 64, dtype)
    camera = retrieve(watched, queries[:, 1], database, data.labels)
    return (*new.values(), *camera.values())


def measure(args: argparse.Namespace) -> Iterator[Result]:
    """Train and judge each objective with each seed."""
    data = TrainingData.load(args.dpath)
    for seed in args.seeds:
        known = data.hold_out(args.holdout_classes, seed)
        for name, recipe in OBJECTIVES.items():
            if args.only and not any(part in name for part in args.only):
                continue
            for lr in TUNED if args.tune else (recipe.lr,):
                chosen = replace(recipe, lr=lr)
                is_normalized = name != ORIGINAL
                model, steps, images = train(chosen, known, is_normalized, args, seed)
                found = judge(model, known, args.dpath)
                yield Result(name, lr, seed, args.budget_s, steps, images, *found)


def table(results: list[Result]) -> str:
    """Return a Markdown table: means over seeds, with half the range between them."""
    lines = [
        "| objective | lr | steps | images seen | new classes: cmc@1 | map@R "
        "| other camera: cmc@1 | map@R |",
        "|---|---|---|---|---|---|---|---|",
    ]
    frame = pd.DataFrame([asdict(result) for result in results])
    for (name, lr), rows in frame.groupby(["objective", "lr"], sort=False):
        cells = [
            f"{rows[c].mean():.3f} ± {(rows[c].max() - rows[c].min()) / 2:.3f}"
            for c in ("new_cmc1", "new_map_r", "camera_cmc1", "camera_map_r")
        ]
        counts = f"{rows['steps'].mean():.0f} | {rows['images'].mean():.0f}"
        lines.append(f"| {name} | {lr:g} | {counts} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> None:
    """Measure, and write the results anew after each model."""
    torch.set_num_threads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    images = layout.IMAGE_MATRIX.load(args.dpath)
    side, n_class = images.shape[-1], len(layout.CLASS_IMAGES.load(args.dpath))
    header = (
        f"{provenance.processor()}; {versions()}.\n\n{len(images)} images of {n_class} classes at "
        f"{side} px, {args.holdout_classes:g} of the classes held out; {args.arch} from random "
        f"weights (no ImageNet weights), {DIM} dimensions, {args.budget_s:g} s of processor time on"
        f" {args.threads} thread(s) for each model. Mean over seeds {args.seeds} ± half the range."
    )
    results: list[Result] = []
    for result in measure(args):
        print(result, flush=True)
        results.append(result)
        stem = args.output / f"training_{args.name}"
        frame = pd.DataFrame([asdict(r) for r in results])
        frame.to_csv(stem.with_suffix(".csv"), index=False, float_format="%.5g")
        stem.with_suffix(".md").write_text(f"{header}\n\n{table(results)}\n", encoding="utf-8")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dpath", type=cli.data_directory, required=True, help="the data directory")
    add("--name", required=True, help="of the results")
    add("--arch", default="resnet18", help="the trunk")
    add("--budget_s", type=float, default=45.0, help="processor time of each model")
    add("--threads", type=int, default=1, help="of torch")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of classes held out and weights")
    add("--holdout_classes", type=float, default=0.2, help="share or number of classes")
    add("--only", nargs="+", help="objectives whose name holds one of these")
    add("--tune", action="store_true", help=f"try the learning rates {TUNED}")
    add("--output", type=Path, default=Path("benchmarks/results"))
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
