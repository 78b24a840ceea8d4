"""Fit a training into minutes: measure its first steps, then choose batch size and epochs.

The choice is printed and kept in the checkpoint. The same command with the chosen numbers in the
place of ``--minutes`` trains the same weights to the byte.
"""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from retrieval.data.formats import InputError
from retrieval.training.config import FITTED, TrainingConfig
from retrieval.training.recipes import lr_for_batch

if TYPE_CHECKING:
    from retrieval.training.step_loader import StepInput
    from retrieval.training.trainer import Trainer

log = logging.getLogger(__name__)

WARMUP_STEPS = 2  # not measured: the first steps allocate memory and choose kernels
MEASURED_SHARE = 0.03  # of the budget, spent on measuring
MOST_MEASURED = 50  # steps
EMBEDDED = 64  # images embedded to measure the validation
RESERVE = 0.05  # of what is left, for checkpoints and for slower steps than the measured ones
FEWEST_STEPS = 100  # smaller batches rather than fewer steps
SMALLEST_BATCH = 16


@dataclass(frozen=True)
class Pace:
    """The measured speed of a training.

    Attributes:
        steps: Steps of an epoch.
        training_s: Seconds of these steps.
        validation_s: Seconds of the validation after an epoch.
    """

    steps: int
    training_s: float
    validation_s: float

    @property
    def epoch_s(self) -> float:
        return self.training_s + self.validation_s


def fit_budget(trainer: "Trainer", given: TrainingConfig, spent_s: float) -> TrainingConfig:
    """Measure the speed, choose what fits into ``--minutes``, and print it.

    Args:
        trainer: At its first step; the model is changed and should be built anew.
        given: The options of the command.
        spent_s: Seconds that the command has taken so far.
    """
    config, begin = trainer.config, time.monotonic()
    pace = measure_pace(trainer)
    spent_s = _agreed(spent_s + time.monotonic() - begin)
    chosen = fit(config, given, pace, 60 * config.minutes - spent_s)
    names = [
        name for name in FITTED if name == "epoch" or getattr(chosen, name) != getattr(config, name)
    ]
    log.info(
        "%d epochs of %.1f s, batches of %d, learning rate %g; to repeat this training, take %s "
        "in the place of --minutes=%g",
        chosen.epoch,
        pace.epoch_s,
        chosen.batch_size,
        chosen.lr,
        " ".join(f"--{name}={getattr(chosen, name)}" for name in (*names, "threads")),
        config.minutes,
    )
    return chosen


def fit(
    config: TrainingConfig, given: TrainingConfig, pace: Pace, seconds: float
) -> TrainingConfig:
    """Return the options with the batch size and the epochs that fit into the time.

    Epochs with a frozen backbone, and epochs between two shrinks of the learning rate, keep their
    share of the training. The learning rate follows the batch size (`lr_for_batch`).

    Args:
        config: The options, none left out.
        given: The options of the command; the batch size and the learning rate that it sets stay.
        pace: The measured speed.
        seconds: What is left of the budget.

    Raises:
        InputError: Not even one epoch fits.
    """
    epochs = int((1 - RESERVE) * seconds / pace.epoch_s)
    if epochs < 1:
        least = config.minutes + (pace.epoch_s / (1 - RESERVE) - seconds) / 60
        raise InputError(
            f"--minutes={config.minutes:g} is too short for one epoch, which takes "
            f"{pace.epoch_s / 60:.1f}; use --minutes={math.ceil(10 * least) / 10:g}, or train on "
            "fewer images with --max_tuples"
        )
    batch_size, steps = config.batch_size, epochs * pace.steps
    while given.batch_size is None and steps < FEWEST_STEPS and batch_size >= 2 * SMALLEST_BATCH:
        batch_size, steps = batch_size // 2, 2 * steps
    lr = lr_for_batch(config.recipe, batch_size) if given.lr is None else given.lr
    share = epochs / config.epoch
    return replace(
        config,
        epoch=epochs,
        batch_size=batch_size,
        lr=lr,
        frozen_epochs=round(config.frozen_epochs * share),
        shrink_every=max(1, round(config.shrink_every * share)),
        minutes=0.0,
    )


def measure_pace(trainer: "Trainer") -> Pace:
    """Take a few steps and embed a few images, which changes the model."""
    from retrieval.model.encode import embed
    from retrieval.training.validation import validated_rows

    data, config, dtype = trainer.data, trainer.config, trainer.dtype
    batches = trainer.endless_batches()
    for _ in range(WARMUP_STEPS):
        _take(trainer, batches)
    slowest = _agreed(_take(trainer, batches))
    count = min(MOST_MEASURED, 1 + int(60 * config.minutes * MEASURED_SHARE / slowest))
    step_s = _agreed(sum(_take(trainer, batches) for _ in range(count)) / count)
    rows = validated_rows(data)
    some = rows[:EMBEDDED]
    embed(trainer.result, data.images, some, config.batch_size, dtype)
    begin = time.monotonic()
    embed(trainer.result, data.images, some, config.batch_size, dtype)
    embed_s = _agreed(time.monotonic() - begin) / len(some)
    steps = len(trainer.sampler.epoch(0))
    return Pace(steps, steps * step_s, len(rows) * embed_s)


def _take(trainer: "Trainer", batches: Iterator["StepInput"]) -> float:
    """Take one step, its reading included, and return its seconds."""
    begin = time.monotonic()
    trainer.step(next(batches), 0.0).wait()
    return time.monotonic() - begin


def _agreed(seconds: float) -> float:
    """Return the longest time of all processes: they must choose the same."""
    from retrieval.compute import distributed

    return float(max(distributed.gather(np.array(seconds))))
