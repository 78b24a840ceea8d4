"""Fit a training into a time budget: time the first steps, then choose epochs and their length.

An epoch takes fewer images than there are, so that whole epochs with their validations fill the
time. The choice is printed and kept in the checkpoint. The same command with the chosen numbers in
the place of ``--minutes`` trains the same weights to the byte.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from retrieval.data import files
from retrieval.data.formats import InputError
from retrieval.training.config import SCALED, TrainingConfig
from retrieval.training.recipes import augmentation_for, lr_for_batch

if TYPE_CHECKING:
    from retrieval.training.step_loader import StepInput
    from retrieval.training.trainer import Trainer

log = logging.getLogger(__name__)

WARMUP_STEPS = 2  # not measured: the first steps allocate memory and choose kernels
MEASURED_SHARE = 0.02  # of the budget, spent on measuring
MOST_MEASURED = 50  # steps
EMBEDDED = 64  # images embedded to measure the validation
RESERVE = 0.02  # of what is left, for slower steps than the measured ones
VALIDATION_SHARE = 0.05  # of the time, by a smaller sample; more if it has FEWEST_VALIDATED images
FEWEST_VALIDATED = 250
WHITENING_SHARE = 0.1  # of the time, by fewer images than --whitening_images
FEWEST_WHITENED = 500  # of 250, 500 and 1,000, best for a minute (docs/experiments.md)
FEWEST_STEPS = 100  # smaller batches rather than fewer steps
SMALLEST_BATCH = 16
LEAST_STEPS = 10  # a shorter training is refused
# Always named: threads are chosen before.
CHOSEN = (
    "epoch",
    "max_tuples",
    "batch_size",
    "lr",
    "augmentation",
    "validation_images",
    "threads",
)


@dataclass(frozen=True)
class Pace:
    """The measured speed of a training.

    Attributes:
        n_unit: Images or tuples of an epoch.
        step_s: Seconds of a step.
        frozen_step_s: Seconds of a step with a frozen backbone.
        n_validated: Images that a validation of all of them embeds.
        embed_s: Seconds to embed one.
        checkpoint_s: Seconds to write a checkpoint.
        whitening_s: Seconds of the whitenings before the first step and after the last one.
    """

    n_unit: int
    step_s: float
    frozen_step_s: float
    n_validated: int
    embed_s: float
    checkpoint_s: float
    whitening_s: float = 0.0


def fit_budget(
    make_trainer: Callable[[TrainingConfig], "Trainer"],
    config: TrainingConfig,
    given: TrainingConfig,
    begin: float,
    save_path: Path,
) -> TrainingConfig:
    """Measure the speed, choose what fits into ``--minutes``, and print it.

    Args:
        make_trainer: Makes a trainer that is measured and thrown away.
        config: The options, none left out.
        given: The options of the command.
        begin: When the command began, by ``time.monotonic``.
        save_path: Folder of the checkpoints.

    Raises:
        InputError: The time is too short.
    """
    from retrieval.training.trainer import Trainer

    start = time.monotonic()
    trainer = make_trainer(config)
    pace, warm = measure_pace(trainer, save_path)
    # The run makes its trainer anew, and has slow first steps of its own.
    again_s = max(0.0, _agreed(warm - start) - WARMUP_STEPS * pace.step_s)

    def seconds_left() -> float:
        return 60 * config.minutes - _agreed(time.monotonic() - begin) - again_s

    batch_size = fit_batch_size(config, given, pace, seconds_left())
    if batch_size != config.batch_size:
        lr = lr_for_batch(config.recipe, batch_size) if given.lr is None else given.lr
        config = replace(config, batch_size=batch_size, lr=lr)
        smaller = replace(trainer.config, batch_size=batch_size, lr=lr)
        trainer = Trainer(smaller, trainer.data, trainer.model, trainer.dtype)
        pace, _ = measure_pace(trainer, save_path)
    if config.whitening:
        count, whitening_s = plan_whitening(trainer, given, seconds_left())
        config = replace(config, whitening_images=count)
        pace = replace(pace, whitening_s=whitening_s)
    chosen = fit(config, given, pace, seconds_left())
    log.info("%s", describe_choice(chosen, config, pace, trainer.sampler.unit))
    return chosen


def fit_batch_size(
    config: TrainingConfig, given: TrainingConfig, pace: Pace, seconds: float
) -> int:
    """Return the batch size: halved as long as the training has few steps, unless it is given."""
    size, steps = config.batch_size, seconds / pace.step_s
    while given.batch_size is None and steps < FEWEST_STEPS and size >= 2 * SMALLEST_BATCH:
        size, steps = size // 2, 2 * steps
    return size


def fit(
    config: TrainingConfig, given: TrainingConfig, pace: Pace, seconds: float
) -> TrainingConfig:
    """Return the options with the epochs that fill the time, and their length.

    Epochs with a frozen backbone, and epochs between two shrinks of the learning rate, keep their
    share of the training. The tuple loss takes two epochs at least: ``train.npy``, ``train2.npy``.

    Args:
        config: The options, none left out.
        given: The options of the command; the size of the validation that it sets stays.
        pace: The measured speed.
        seconds: What is left of the budget.

    Raises:
        InputError: Not even a few steps fit.
    """
    usable = (1 - RESERVE) * (seconds - pace.whitening_s)
    fewest = 2 if config.loss == "tuple" else 1
    all_steps = -(-pace.n_unit // config.batch_size)
    validated = config.validation_images
    if given.validation_images is None:
        in_time = VALIDATION_SHARE * min(all_steps * pace.step_s, usable / fewest) / pace.embed_s
        validated = min(validated, max(FEWEST_VALIDATED, int(in_time)))
    n_validated = min(validated or pace.n_validated, pace.n_validated)
    between_s = n_validated * pace.embed_s + pace.checkpoint_s  # after each epoch

    def frozen(epochs: int) -> int:
        return round(config.frozen_epochs * epochs / config.epoch)

    def fitting_steps(epochs: int) -> int:
        slow = max(0, epochs - frozen(epochs))
        mean_s = (slow * pace.step_s + (epochs - slow) * pace.frozen_step_s) / epochs
        return max(0, int((usable / epochs - between_s) / mean_s))

    epochs = max(fewest, int(usable / (all_steps * pace.step_s + between_s)))
    while fitting_steps(epochs) > all_steps:
        epochs += 1
    if epochs > fewest and epochs * fitting_steps(epochs) < (epochs - 1) * all_steps:
        epochs -= 1  # the time of one more validation is worth more steps
    steps = min(all_steps, fitting_steps(epochs))
    if epochs * steps < LEAST_STEPS:
        needed = fewest * between_s + LEAST_STEPS * pace.step_s + pace.whitening_s
        least = config.minutes + (1.5 * needed - seconds) / 60
        raise InputError(
            f"--minutes={config.minutes:g} leaves {max(0.0, seconds):.0f} s after the start, too "
            f"few for {LEAST_STEPS} steps of {pace.step_s:.2g} s and a validation of "
            f"{between_s:.2g} s; use "
            f"--minutes={math.ceil(10 * least) / 10:g}"
        )
    passes = epochs * min(1, steps / all_steps)
    return replace(
        config,
        epoch=epochs,
        max_tuples=steps * config.batch_size if steps < all_steps else config.max_tuples,
        frozen_epochs=frozen(epochs),
        shrink_every=max(1, round(config.shrink_every * epochs / config.epoch)),
        augmentation=given.augmentation or augmentation_for(config.recipe, passes),
        validation_images=validated,
        minutes=0.0,
    )


def describe_choice(chosen: TrainingConfig, config: TrainingConfig, pace: Pace, unit: str) -> str:
    """Return the choice in words, and the flags that repeat the training.

    Args:
        chosen: The options that ``fit`` returned.
        config: The options that it got.
        pace: The measured speed.
        unit: What a batch counts.
    """
    n_unit = min(chosen.max_tuples or pace.n_unit, pace.n_unit)
    n_validated = min(chosen.validation_images or pace.n_validated, pace.n_validated)
    changed = [name for name in SCALED if getattr(chosen, name) != getattr(config, name)]
    names = dict.fromkeys([*CHOSEN, *changed, *["whitening_images"] * config.whitening])
    flags = " ".join(f"--{name}={getattr(chosen, name)}" for name in names)
    replaced = [f"--minutes={config.minutes:g}", *(f"--{name}" for name in changed)]
    return (
        f"{chosen.epoch} epochs of {n_unit} {unit}s, {-(-n_unit // chosen.batch_size)} steps of "
        f"{pace.step_s:.3g} s each, and {n_validated * pace.embed_s:.3g} s to validate on "
        f"{n_validated} images; to repeat this training, take {flags} instead of "
        f"{', '.join(replaced)}"
    )


def report_left(config: TrainingConfig, begin: float) -> None:
    """Log what a training left of its budget.

    Args:
        config: The options of the command.
        begin: When the command began, by ``time.monotonic``.
    """
    used = (time.monotonic() - begin) / 60
    left = config.minutes - used
    text = f"{left:.2f} are left" if left >= 0 else f"{-left:.2f} more: its steps became slower"
    log.info("took %.2f minutes of --minutes=%g, %s", used, config.minutes, text)


def measure_pace(trainer: "Trainer", save_path: Path) -> tuple[Pace, float]:
    """Take a few steps, embed a few images and write a checkpoint, which changes the model.

    Returns:
        The measured speed, and when the first steps were over, by ``time.monotonic``.
    """
    from retrieval.model.encode import embed
    from retrieval.training.validation import validated_rows

    data, config, dtype = trainer.data, trainer.config, trainer.dtype
    batches = trainer.endless_batches()
    for _ in range(WARMUP_STEPS):
        _take(trainer, batches, 0.0)
    warm = time.monotonic()
    frozen_step_s = _step_seconds(trainer, batches, 0.0) if config.frozen_epochs else math.inf
    step_s = _step_seconds(trainer, batches, float(config.frozen_epochs))
    rows = validated_rows(data)
    some = rows[:EMBEDDED]
    embed(trainer.result, data.images, some, config.batch_size, dtype)
    begin = time.monotonic()
    embed(trainer.result, data.images, some, config.batch_size, dtype)
    pace = Pace(
        n_unit=trainer.sampler.n_unit,
        step_s=step_s,
        frozen_step_s=min(step_s, frozen_step_s),
        n_validated=len(rows),
        embed_s=_agreed(time.monotonic() - begin) / len(some),
        checkpoint_s=_agreed(_checkpoint_seconds(trainer, save_path)),
    )
    return pace, warm


def _step_seconds(trainer: "Trainer", batches: Iterator["StepInput"], progress: float) -> float:
    """Return the mean seconds of a step at a point of the schedule."""
    first = _agreed(_take(trainer, batches, progress))
    in_time = int(60 * trainer.config.minutes * MEASURED_SHARE / first)
    count = min(MOST_MEASURED, 1 + in_time)
    steps = tqdm(range(count), desc="measure", unit="step", disable=None, leave=False)
    return _agreed(sum(_take(trainer, batches, progress) for _ in steps) / count)


def _take(trainer: "Trainer", batches: Iterator["StepInput"], progress: float) -> float:
    """Take one step, its reading included, and return its seconds."""
    begin = time.monotonic()
    trainer.step(next(batches), progress).wait()
    return time.monotonic() - begin


def _checkpoint_seconds(trainer: "Trainer", save_path: Path) -> float:
    """Return the seconds that a checkpoint takes; only the first process writes."""
    from retrieval.compute import distributed
    from retrieval.model import checkpoint

    begin = time.monotonic()
    if distributed.is_main():
        with files.scratch(checkpoint.path_of(save_path, 0)) as part:
            checkpoint.save(part, trainer.result, epoch=0, weights="", **trainer.state())
    return time.monotonic() - begin


def plan_whitening(
    trainer: "Trainer",
    given: TrainingConfig,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[int, float]:
    """Choose how many images a whitening is fitted to, from one that is fitted to a few.

    Args:
        trainer: Its options apply.
        given: The options of the command; a number of images that it sets stays.
        seconds: What is left of the budget.
        clock: What counts the seconds.

    Returns:
        The number of images, and the seconds of the whitenings before the first step and after
        the last one.
    """
    from retrieval.model.encode import pooled_features
    from retrieval.model.tta import at_scale
    from retrieval.training import closed_form

    data, config, model = trainer.data, trainer.config, trainer.result
    rows = closed_form.fitted_rows(data.rows, EMBEDDED, config.seed)
    begin = clock()
    for shown in (model, at_scale(model, config.encode_scale)):
        features = pooled_features(shown, data.images, rows, config.batch_size, trainer.dtype)
    embedded = clock()
    closed_form.whitened(model, features, data.numbers(rows))
    fit_s, image_s = _agreed(clock() - embedded), _agreed(embedded - begin) / len(rows)
    count = config.whitening_images
    if given.whitening_images is None:
        count = min(count, max(FEWEST_WHITENED, int(WHITENING_SHARE * seconds / image_s)))
    return count, 2 * fit_s + image_s * min(count or len(data.rows), len(data.rows))


def _agreed(seconds: float) -> float:
    """Return the longest time of all processes: they must choose the same."""
    from retrieval.compute import distributed

    return float(max(distributed.gather(np.array(seconds))))
