"""Speed of training steps, compared with the same steps on a batch resident on the device.

Writes  training_speed.csv in --output

    python -m benchmarks.train.speed
    python -m benchmarks.train.speed --device=cuda --networks resnet50 --sides 224

Ours reads random rows of a memory-mapped file ahead, copies them to the device, augments and
normalizes them, and takes one optimizer step per batch. The ceiling takes the same optimizer steps
with the same loss on one batch that stays on the device. The share of the matmul peak counts only
the operations of the network.
"""

import argparse
import itertools
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import measured_process, results, roofline
from benchmarks.timing import by_turns, median, spread
from retrieval.compute import devices
from retrieval.data import provenance
from retrieval.model.embedding import compile_backbone, put_on
from retrieval.training.config import TrainingConfig
from retrieval.training.dataset import TrainingData
from retrieval.training.recipes import resolve_config
from retrieval.training.samplers import Batch, Steps
from retrieval.training.trainer import Trainer

OURS, COMPILED, CEILING = "ours", "ours, compiled", "resident batch"
N_CLASS = 64
WARM_UP = {"cpu": 1, "cuda": 5}  # steps before the measurement


class RandomSampler:
    """Draws random images for each step of a practically endless epoch."""

    unit = "image"
    n_unit = 1 << 20

    def __init__(self, n_image: int, batch: int) -> None:
        self.n_image, self.batch = n_image, batch

    def epoch(self, number: int) -> Steps:
        def make(step: int) -> Batch:
            rng = np.random.default_rng([number, step])
            rows = np.sort(rng.choice(self.n_image, self.batch, replace=False))
            return Batch(rows, rows % N_CLASS, None, self.batch)

        return Steps(self.n_unit, make)


def make_trainer(
    arch: str, matrix: np.ndarray, batch: int, device: torch.device, is_compiled: bool
) -> Trainer:
    """Return a trainer as in train.py, with cross-entropy, for the images of a matrix."""
    config = resolve_config(
        TrainingConfig(arch=arch, loss="ce", batch_size=batch, augmentation="light")
    )
    model = put_on(roofline.make_model(arch, matrix.shape[-1]), device)
    if is_compiled:
        compile_backbone(model)
    rows, none = np.arange(len(matrix)), np.empty(0, np.int64)
    data = TrainingData(
        images=matrix,
        tuples=None,
        pairs=none.reshape(0, 3),
        queries=none.reshape(0, 2),
        labels=rows % N_CLASS,
        gallery=none,
        rows=rows,
        holdout=none,
    )
    dtype = devices.compute_dtype(device, "auto")
    trainer = Trainer(replace(config, micro_batch=batch), data, model, dtype)
    trainer.sampler = RandomSampler(len(matrix), batch)
    return trainer


def timed(
    method: str, folder: str, arch: str, side: int, batch: int, device_name: str, seconds: float
) -> float:
    """Return the images/s of training steps over about ``seconds``, after a warm-up."""
    device = devices.choose(device_name)
    matrix = np.load(Path(folder) / f"{side}.npy", mmap_mode="r")
    trainer = make_trainer(arch, matrix, batch, device, method == COMPILED)
    given = trainer.batches(epoch=0)
    if method == CEILING:
        given = itertools.repeat(next(given))
    for one in itertools.islice(given, WARM_UP[device.type]):
        trainer.step(one, progress=0.0).wait()
    roofline.wait_for(device)
    start, count, before = time.perf_counter(), 0, None
    while time.perf_counter() - start < seconds:
        figures = trainer.step(next(given), progress=0.0)
        if before is not None:
            before.wait()  # as in training: at most one step behind
        before, count = figures, count + 1
    roofline.wait_for(device)
    return count * batch / (time.perf_counter() - start)


def measure(arch: str, side: int, args: argparse.Namespace, folder: Path) -> list[results.Row]:
    """Measure one network at one image size, ours and the ceiling in turns."""
    device = devices.choose(args.device)
    names = [OURS, CEILING, *([COMPILED] if args.compile else [])]
    common: dict[str, Any] = {"folder": str(folder), "arch": arch, "side": side}
    common |= {"batch": args.batch, "device_name": args.device, "seconds": args.seconds}

    peaks: dict[str, float] = {}

    def once(method: str) -> float:
        rate, usage = measured_process.call(timed, args.threads, method=method, **common)
        peaks[method] = usage.peak_bytes / 1e6
        return rate

    rates = by_turns({name: partial(once, name) for name in names}, args.repeats, warm_up=0)
    flops = roofline.flops_per_image(roofline.make_model(arch, side), side, True)
    dtype = devices.compute_dtype(device, "auto")
    peak = roofline.matmul_flops(device, dtype)
    return [
        {
            "device": roofline.device_name(device, provenance.processor()),
            "network": arch,
            "side_px": side,
            "batch": args.batch,
            "precision": str(dtype).removeprefix("torch."),
            "method": name,
            "images_per_s": median(rates[name]),
            "spread_%": spread(rates[name]),
            "share_of_ceiling": median(rates[name]) / median(rates[CEILING]),
            "share_of_matmul_peak": median(rates[name]) * flops / peak,
            "peak_MB": peaks[name],
        }
        for name in names
    ]


def run(args: argparse.Namespace) -> None:
    """Measure all networks and image sizes, and publish the table."""
    record = results.Run("training_speed", args, args.output)
    rows: list[results.Row] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for side in args.sides:
            roofline.write_images(Path(folder) / f"{side}.npy", args.images, side)
            for arch in args.networks:
                rows += measure(arch, side, args, Path(folder))
    record.publish(args.name, rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--networks", nargs="+", default=["resnet18"], help="backbones")
    add("--sides", type=int, nargs="+", default=[64, 224], help="image sides in pixels")
    add("--batch", type=int, default=64, help="images per step")
    add("--images", type=int, default=2048, help="images in the file")
    add("--seconds", type=float, default=10.0, help="seconds per measurement")
    add("--repeats", type=int, default=3, help="measurements per method")
    add("--device", default="cpu", help="cpu, cuda or cuda:n")
    add("--compile", action="store_true", help="also measure the compiled network")
    add("--name", default="training_speed", help="name of the csv file")
    add("--folder", type=Path, help="parent of the temporary image folder")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
