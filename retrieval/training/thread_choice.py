"""Choose the number of training threads on a busy machine.

Another number rounds sums in another order, so the checkpoints keep it, and a resumed run takes it.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval import threads
from retrieval.compute.devices import Precision
from retrieval.data.formats import InputError
from retrieval.training.config import TrainingConfig

if TYPE_CHECKING:
    from retrieval.model.embedding import EmbeddingModel

log = logging.getLogger(__name__)

IMAGES = 8  # in a measured step
LEAST_S = 0.4  # for which each number of threads is measured


def with_named(given: TrainingConfig) -> TrainingConfig:
    """Return the options of the command with the threads that OMP_NUM_THREADS names, if any."""
    return given if given.threads else given.with_values({"threads": threads.named_threads()})


def choose_threads(config: TrainingConfig, build: Callable[[], "EmbeddingModel"]) -> int:
    """Return the number of threads to train with, and print it.

    Args:
        config: The options, none left out; ``threads`` of 0 are chosen.
        build: Returns the model on its device; it is changed.
    """
    if config.threads:
        count = config.threads
        if count > threads.usable_processors():
            usable = threads.usable_processors()
            log.warning("%d threads share %d processors: --threads=%d", count, usable, usable)
        return count
    from retrieval.compute import distributed

    measured: list[int] = []

    def seconds(count: int) -> float:
        measured.append(count)
        return step_seconds(build(), config.precision, count)

    # Several processes must not choose differently, and torchrun gives each a thread anyway.
    most = threads.worker_threads()
    count = most if distributed.size() > 1 else threads.fastest_threads(seconds)
    why = ", the fastest beside the other programs" if measured and count < most else ""
    log.info("%d threads%s; --threads=%d repeats this training to the byte", count, why, count)
    return count


def step_seconds(model: "EmbeddingModel", precision: Precision, count: int) -> float:
    """Return the seconds of a forward and a backward pass of a few images.

    Args:
        model: On its device; its gradients and statistics are changed.
        precision: As training takes it.
        count: Threads.
    """
    import torch

    from retrieval.compute import devices

    device, side = model.mean.device, model.config.side
    dtype = devices.training_dtype(model, device, precision)
    images = torch.zeros(IMAGES, 3, side, side, dtype=torch.uint8, device=device)
    model.train()

    def step() -> None:
        with devices.autocast(device, dtype):
            features = model.before_neck(images)
        features.float().sum().backward()

    with threads.computing_with(count):
        step()  # allocates memory, chooses kernels
        begin, n_step = time.perf_counter(), 0
        while n_step == 0 or time.perf_counter() - begin < LEAST_S:
            step()
            n_step += 1
        return (time.perf_counter() - begin) / n_step


def name_other_threads(save_path: Path, config: TrainingConfig) -> None:
    """Warn if the run in a folder used another number of threads than this one."""
    from retrieval.model import checkpoint

    path = checkpoint.path_of(save_path, 0)
    try:
        before = checkpoint.load(path)["options"].get("threads") if path.is_file() else None
    except InputError:  # it is put aside, whatever it is
        return
    if before not in (None, 0, config.threads):
        log.warning(
            "%s was trained with %d threads, this run takes %d: the weights will differ in the "
            "last digits; --threads=%d repeats that run",
            path,
            before,
            config.threads,
            before,
        )
