"""Accuracy of trainings at equal data, backbone and processor time.

Reads   --dpath, prepared data directories: imageset.npy, the split; test_image.npy and test.npy
Writes  training_<name>.csv in --output

    python -m benchmarks.train.accuracy --name=drawn --dpath ~/s41 ~/s42 ~/s43 --minutes=2
    python -m benchmarks.train.accuracy --name=photos --photos=~/photos --methods=photos
    python -m benchmarks.train.accuracy --name=drawn_cameras --dpath ~/s41 --methods=cameras

Every method trains the same first weights for the same processor time, at a fixed number of
threads: wall-clock time would be unfair on a shared machine. It runs through its whole schedule of
learning rates within the time. Nothing is chosen on the evaluated queries.
"""

import argparse
import itertools
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import results
from benchmarks.data import camera_subsets
from benchmarks.data.photo_split import prepare_photos
from benchmarks.train.library_trainings import train_with_library
from benchmarks.train.methods import METHODS, UNTRAINED, Method
from retrieval import cli
from retrieval.data import layout
from retrieval.evaluation import bootstrap, descriptors, metrics
from retrieval.model import runtime
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.encode import embedding_blocks
from retrieval.model.tta import Views
from retrieval.search.exact import nearest_neighbors, without_own
from retrieval.threads import computing_with
from retrieval.training import budget
from retrieval.training.checkpointing import ResumePoint
from retrieval.training.config import TrainingConfig
from retrieval.training.dataset import TrainingData
from retrieval.training.recipes import augmentation_for, resolve_config
from retrieval.training.trainer import Trainer
from train import load_data, make_trainer

CPU = torch.device("cpu")
MICRO_BATCH = 64
MEASURED_STEPS = 4
VALUES = ("cmc@1", "map@R")


@dataclass(frozen=True)
class Trial:
    """One training, evaluated.

    Attributes:
        where: The data directory and the seed.
        method: Its name.
        minutes: Processor time of the training, of one thread.
        steps: Optimizer steps.
        images: Images seen.
        values: Kind of queries -> (2, n_query) float64, cmc@1 and AP@R of each.
        labels: Kind of queries -> (n_query,) int64.
    """

    where: str
    method: str
    minutes: float
    steps: int
    images: int
    values: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


def train(
    given: TrainingConfig, config: TrainingConfig, data: TrainingData, minutes: float
) -> tuple[EmbeddingModel, int, int]:
    """Train for a time; return the model and the numbers of steps and images.

    Args:
        given: The options of the method.
        config: The same, none left out.
        data: The images and the split.
        minutes: Processor time; 0 takes no step.
    """
    seconds = 60 * minutes
    config = replace(config, micro_batch=MICRO_BATCH)
    if minutes and config.whitening:  # its time counts
        measured, _ = make_trainer(config, given, data, ResumePoint(), CPU)
        count, used = budget.plan_whitening(measured, given, seconds, time.process_time)
        config, seconds = replace(config, whitening_images=count), seconds - used
    if minutes and given.augmentation is None:
        passes = seconds / seconds_of_pass(make_trainer(config, given, data, ResumePoint(), CPU)[0])
        config = replace(config, augmentation=augmentation_for(config.recipe, passes))
    trainer, _ = make_trainer(config, given, data, ResumePoint(), CPU)
    steps, images = 0, 0
    if minutes:
        trainer.start()
    start = time.process_time()
    for batch in trainer.endless_batches():
        used = (time.process_time() - start) / seconds if minutes else 1
        if used >= 1:
            break
        trainer.step(batch, used * config.epoch)
        steps, images = steps + 1, images + batch.n
    if minutes:
        trainer.finish()
    return trainer.result, steps, images


def seconds_of_pass(trainer: Trainer) -> float:
    """Return the processor time of one pass through the images, from a few steps."""
    batches, n = trainer.endless_batches(), 0
    for _ in range(budget.WARMUP_STEPS):
        trainer.step(next(batches), 0)
    start = time.process_time()
    for batch in itertools.islice(batches, MEASURED_STEPS):
        trainer.step(batch, 0)
        n += batch.n
    return (time.process_time() - start) * len(trainer.data.rows) / n


def encode(model: EmbeddingModel, images: np.ndarray, *, method: Method) -> np.ndarray:
    """Return the embeddings of all images in float32, (n, dim) float32."""
    views = Views("flip" if method.flip else "none", (method.scale,))
    rows = np.arange(len(images))
    _, embedder = runtime.fastest(model.eval(), torch.float32, views, images.shape[-1])
    blocks = embedding_blocks(embedder, images, rows, MICRO_BATCH, torch.float32, "encode", views)
    return np.concatenate([embeddings for _, embeddings in blocks])


def per_query(
    queries: np.ndarray,
    labels: np.ndarray,
    gallery: np.ndarray,
    gallery_labels: np.ndarray,
    own: np.ndarray | None,
) -> np.ndarray:
    """Return cmc@1 and AP@R of each query, (2, n_query) float64.

    Args:
        queries: (n_query, dim) float32.
        labels: (n_query,) int64.
        gallery: (n_gallery, dim) float32.
        gallery_labels: (n_gallery,) int64.
        own: (n_query,) int64 rows of the gallery that the queries are; None if they are none.
    """
    n_relevant = metrics.count_relevant(labels, gallery_labels) - (own is not None)
    ids, similarities = nearest_neighbors(queries, gallery, int(n_relevant.max()) + 1)
    if own is not None:
        ids, _ = without_own(ids, similarities, own)
    hits = metrics.find_hits(ids, labels, gallery_labels)
    ap = metrics.average_precision_at_r(hits, n_relevant)
    return np.stack([metrics.cmc_at_k(hits, 1).astype(float), ap])


def measure(
    data_dir: Path, name: str, method: Method, args: argparse.Namespace, seed: int
) -> Trial:
    """Train and evaluate one method."""
    images = layout.IMAGE_MATRIX.load(data_dir)
    test = layout.TEST_MATRIX.load(data_dir) if layout.TEST_MATRIX.at(data_dir).exists() else None
    minutes = args.minutes * method.is_trained
    steps = n_seen = 0
    if method.flags is None:
        data = TrainingData.load(data_dir, has_tuples=False)
        describe = partial(descriptors.describe_images, descriptors.raw_pixels, title=name)
    else:
        common = f"--arch={args.arch} --weights={args.weights} --seed={seed}"
        given = method.given(common)
        config = resolve_config(given)
        data = load_data(data_dir, config)
        if method.library:
            model, steps, n_seen = train_with_library(method.library, given, data, minutes)
        else:
            model, steps, n_seen = train(given, config, data, minutes)
        describe = partial(encode, model, method=method)
    database = describe(images)
    index, labels = data.queries.T
    own = np.searchsorted(data.gallery, index) if data.is_class_disjoint else None
    gallery, gallery_labels = database[data.gallery], data.labels[data.gallery]
    of_valid = per_query(database[index], labels, gallery, gallery_labels, own)
    values, of_labels = {"validation": of_valid}, {"validation": labels}
    if test is not None:
        watched = describe(test)
        index, labels = np.array(layout.TEST_QUERIES.load(data_dir)).T
        gallery_labels = data.labels[: len(images)]
        has_answer = np.isin(labels, gallery_labels)
        index, of_labels["camera"] = index[has_answer], labels[has_answer]
        values["camera"] = per_query(
            watched[index], labels[has_answer], database, gallery_labels, None
        )
    where = f"{data_dir.name}, seed {seed}"
    return Trial(where, name, minutes, steps, n_seen, values, of_labels)


def table(trials: list[Trial], reference: str) -> list[results.Row]:
    """Return one row per method: means over the trials ± half their range, and the paired gain.

    The gain in map@R over the reference has its 95% interval, from a bootstrap over classes of the
    values of each query, averaged over the seeds of one data directory.
    """
    rows: list[results.Row] = []
    for name in dict.fromkeys(trial.method for trial in trials):
        own = [trial for trial in trials if trial.method == name]
        row: dict[str, object] = {"method": name}
        row |= {key: np.mean([getattr(t, key) for t in own]) for key in ("minutes", "images")}
        for kind in own[0].values:
            means = np.array([trial.values[kind].mean(axis=1) for trial in own])
            half = (means.max(axis=0) - means.min(axis=0)) / 2
            for column, value in enumerate(VALUES):
                spread = f"{means[:, column].mean():.3f} ± {half[column]:.3f}"
                row[f"{kind} {value}"] = spread
            others = [trial for trial in trials if trial.method == reference]
            if name != reference and others:
                row[f"{kind} gain"] = _gain(others, own, kind)
        rows.append(row)
    return rows


def _gain(first: list[Trial], second: list[Trial], kind: str) -> str:
    """Return the difference of map@R and its interval as text."""
    parts: dict[str, list[np.ndarray]] = {}
    labels: dict[str, np.ndarray] = {}
    for before, after in zip(first, second, strict=True):
        assert before.where == after.where
        folder = before.where.split(",")[0]
        parts.setdefault(folder, []).append(
            np.stack([before.values[kind][1], after.values[kind][1]])
        )
        labels[folder] = before.labels[kind]
    pairs = np.concatenate([np.mean(of_folder, axis=0) for of_folder in parts.values()], axis=1)
    # Classes of different samples are different classes.
    apart = np.concatenate([labels[f] + 1_000_000 * i for i, f in enumerate(parts)])
    found = bootstrap.paired_bootstrap(pairs[0], pairs[1], apart)
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def run(args: argparse.Namespace) -> None:
    """Measure all methods on all data, and publish the table."""
    record = results.Run("training", args, args.output)
    if args.photos is not None:
        args.dpath = [*args.dpath, prepare_photos(args.photos, args.samples, args.side)]
    methods = METHODS[args.methods]
    chosen = {n: m for n, m in methods.items() if not args.only or any(t in n for t in args.only)}
    trials: list[Trial] = []
    for number, data_dir in enumerate(args.dpath):
        if args.methods == "cameras":
            camera_subsets.write(data_dir)
        seeds = args.seeds if len(args.dpath) == 1 else [args.seeds[number % len(args.seeds)]]
        for seed in seeds:
            for name, method in chosen.items():
                trials.append(measure(data_dir, name, method, args, seed))
                last = trials[-1]
                means = {
                    kind: of.mean(axis=1).round(4).tolist() for kind, of in last.values.items()
                }
                print(
                    last.where, name, f"{last.steps} steps, {last.images} images", means, flush=True
                )
    reference = args.reference if args.reference in chosen else next(iter(chosen))
    record.publish(f"training_{args.name}", table(trials, reference))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dpath", type=cli.data_directory, nargs="+", default=[], help="data directories")
    add(
        "--photos",
        type=cli.user_path,
        help="a folder of photos, one sub-folder for each class: "
        "trained on half of the classes, evaluated on the others",
    )
    add("--samples", type=Path, default=Path("demo/bench"), help="folder of prepared photos")
    add("--side", type=int, default=128, help="side of the images of --photos in pixels")
    add("--name", required=True, help="suffix of the result files")
    add("--arch", default="timm/tf_efficientnet_lite0", help="backbone")
    add("--weights", default="auto", help="first weights, as in train.py")
    add("--methods", choices=METHODS, default="recipes", help="which trainings to compare")
    add("--minutes", type=float, default=2.0, help="processor time of a training")
    add("--seeds", type=int, nargs="+", default=[1], help="seeds; one for each of several --dpath")
    add("--only", nargs="+", help="methods whose name contains one of these texts")
    add("--reference", default=UNTRAINED, help="method that gains are relative to")
    results.add_arguments(parser)
    parser.set_defaults(threads=1)
    return parser


if __name__ == "__main__":
    options = make_parser().parse_args()
    with computing_with(options.threads):
        run(options)
