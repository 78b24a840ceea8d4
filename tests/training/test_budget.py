"""Training for a number of minutes: what is chosen, and that it can be repeated."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.data.formats import InputError
from retrieval.training import budget
from retrieval.training.budget import RESERVE, Pace
from retrieval.training.config import TrainingConfig
from retrieval.training.recipes import lr_for_batch, resolve_config
from retrieval.training.trainer import Trainer
from tests.conftest import train_small

# An epoch takes 100 steps of a second with batches of 32, and 10 seconds to validate and to save.
PACE = Pace(3200, step_s=1.0, frozen_step_s=0.5, n_validated=100, embed_s=0.09, checkpoint_s=1.0)


def fit(seconds: float, pace: Pace = PACE, **options: object) -> TrainingConfig:
    given = TrainingConfig(minutes=seconds / 60, **{"recipe": "ce", **options})  # type: ignore[arg-type]
    return budget.fit(resolve_config(given), given, pace, seconds)


def seconds_of(chosen: TrainingConfig, pace: Pace = PACE) -> float:
    steps = -(-min(chosen.max_tuples or pace.n_unit, pace.n_unit) // chosen.batch_size)
    n_slow = max(0, chosen.epoch - chosen.frozen_epochs)
    of_steps = n_slow * pace.step_s + (chosen.epoch - n_slow) * pace.frozen_step_s
    validated = min(chosen.validation_images or pace.n_validated, pace.n_validated)
    return of_steps * steps + chosen.epoch * (validated * pace.embed_s + pace.checkpoint_s)


@pytest.mark.parametrize("options", [{}, {"recipe": "original"}, {"frozen_epochs": 7}])
def test_whole_epochs_fill_the_time_to_the_last_step(options: dict[str, object]) -> None:
    for seconds in (35, 60, 119, 306, 600, 1001, 3600):
        chosen = fit(seconds, batch_size=32, **options)
        in_time = (1 - RESERVE) * seconds
        # Less than a step of each epoch, than another validation, or than a frozen epoch saves.
        left = chosen.epoch * PACE.step_s + 10
        left += 100 * (PACE.step_s - PACE.frozen_step_s) if options.get("frozen_epochs") else 0
        assert in_time - left < seconds_of(chosen) <= in_time, seconds
        assert chosen.minutes == 0


def test_epochs_are_as_long_as_the_images_last() -> None:
    exact = 3 * 110 / (1 - RESERVE)
    assert (fit(exact + 0.1).epoch, fit(exact + 0.1).max_tuples) == (3, 0)
    longer = fit(exact + 66)
    assert (longer.epoch, longer.max_tuples) == (4, 3200 * 0.88 // 32 * 32)
    # Below an epoch, a part of one; the tuple loss has its two files.
    half = fit(60 / (1 - RESERVE) + 0.1)
    assert (half.epoch, half.max_tuples) == (1, 50 * 32)
    tuples = fit(80 / (1 - RESERVE) + 0.1, recipe="original")
    assert (tuples.epoch, tuples.max_tuples) == (2, 30 * 64)
    # What the command sets is a bound.
    pace = replace(PACE, n_unit=320)
    assert 0 < fit(35, pace, max_tuples=320).max_tuples < 320
    assert fit(1000, pace, max_tuples=320).max_tuples <= 320


def test_another_validation_is_not_worth_its_time() -> None:
    slow = replace(PACE, embed_s=0.6)  # a minute
    chosen = fit(170 / (1 - RESERVE), slow)
    assert (chosen.epoch, chosen.max_tuples) == (1, 0)


def test_validation_takes_a_small_share_of_the_time() -> None:
    many = replace(PACE, n_validated=10_000, embed_s=0.01)
    assert fit(1000, many).validation_images == 500  # of 100 seconds, a twentieth
    assert fit(1000, replace(many, step_s=10.0)).validation_images == 1000
    assert fit(40, many).validation_images == budget.FEWEST_VALIDATED
    assert fit(1000, many, validation_images=700).validation_images == 700
    assert fit(1000, many, validation_images=0).validation_images == 0


def test_long_trainings_take_large_crops() -> None:
    assert fit(900).augmentation == "light"
    assert fit(1200).augmentation == "crop"  # ten passes of 100 s, and their validations
    assert fit(1200, augmentation="none").augmentation == "none"
    assert fit(1200, recipe="original").augmentation == "light"
    given = {epoch: TrainingConfig(recipe="ce", epoch=epoch) for epoch in (5, 20, None)}
    found = {epoch: resolve_config(config).augmentation for epoch, config in given.items()}
    assert found == {5: "light", 20: "crop", None: "crop"}


def test_few_steps_take_small_batches() -> None:
    def size(seconds: float, **options: object) -> int:
        given = TrainingConfig(minutes=seconds / 60, recipe="ce", **options)  # type: ignore[arg-type]
        return budget.fit_batch_size(resolve_config(given), given, PACE, seconds)

    assert size(200) == resolve_config(TrainingConfig(recipe="ce")).batch_size
    assert size(60) == size(10) == budget.SMALLEST_BATCH
    assert size(60, batch_size=100) == 100


def test_frozen_epochs_keep_their_share() -> None:
    options = {"frozen_epochs": 3, "shrink_every": 10, "schedule": "shrink"}
    whole = resolve_config(TrainingConfig(recipe="ce", **options))  # type: ignore[arg-type]
    chosen = fit(7000, **options)
    assert chosen.frozen_epochs == round(3 * chosen.epoch / whole.epoch) > 3
    assert chosen.shrink_every > 10
    short = fit(40, **options)
    assert (short.frozen_epochs, short.shrink_every) == (0, 1)


@pytest.mark.parametrize("recipe", ["ce", "original"])
def test_a_budget_without_time_for_a_few_steps_is_refused(recipe: str) -> None:
    with pytest.raises(
        InputError, match="leaves 12 s after the start, too few for 10 steps"
    ) as caught:
        fit(12, recipe=recipe)
    remedy = re.search(r"use --minutes=(\S+)$", str(caught.value))
    assert remedy is not None
    assert seconds_of(fit(60 * float(remedy[1]), recipe=recipe)) < 60 * float(remedy[1])
    for epoch in (0, 3):
        with pytest.raises(InputError, match="leave --epoch or --minutes out"):
            resolve_config(TrainingConfig(minutes=1, epoch=epoch))


def test_rates_follow_the_batch_size() -> None:
    assert resolve_config(TrainingConfig(batch_size=16)).lr == 5e-5  # adam: the square root
    recipe = resolve_config(TrainingConfig(recipe="ce"))
    half = recipe.batch_size // 2
    assert lr_for_batch("ce", half) < recipe.lr
    # A resumed run keeps its rate.
    before = resolve_config(TrainingConfig(recipe="ce")).values()
    assert resolve_config(TrainingConfig(batch_size=half), before).lr == recipe.lr
    assert resolve_config(TrainingConfig(recipe="ce", batch_size=half)).lr < recipe.lr


def test_a_training_in_minutes_repeats_to_the_byte(
    pipeline: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = budget.measure_pace

    def slow(trainer: Trainer, save_path: Path) -> tuple[Pace, float]:
        measure(trainer, save_path)  # which must not change the training
        return Pace(36, 60.0, 60.0, 48, 0.1, 1.0), time.monotonic()

    caplog.set_level("INFO")
    options = {"recipe": "ce", "batch_size": 20}
    monkeypatch.setattr(budget, "measure_pace", slow)  # an hour in a few steps
    first = train_small(pipeline, pipeline / "first", minutes=13, **options)
    assert "minutes of --minutes=13, " in caplog.text
    found = re.search(r"take (.*) instead of --minutes=13\b", caplog.text)
    assert found is not None
    flags = dict(flag.removeprefix("--").split("=") for flag in found[1].split())
    assert {"epoch", "max_tuples", "batch_size", "lr"} <= set(flags) | set(options)
    assert int(flags["epoch"]) == len(list((pipeline / "first").glob("model.ep*"))) > 1
    types = {"lr": float, "augmentation": str}
    chosen = {name: types.get(name, int)(value) for name, value in flags.items()}
    second = train_small(pipeline, pipeline / "second", **{**options, **chosen})
    assert second.name == first.name
    assert second.read_bytes() == first.read_bytes()
    # A resumed run keeps what was chosen.
    before = first.read_bytes()
    options |= {"minutes": 13, "resume": "auto"}
    assert train_small(pipeline, pipeline / "first", **options) == first
    assert first.read_bytes() == before


@pytest.mark.parametrize("given", [{}, {"recipe": "ce", "max_tuples": 16, "frozen_epochs": 3}])
def test_a_resumed_run_keeps_what_was_chosen(given: dict[str, object]) -> None:
    chosen = {"epoch": 5, "max_tuples": 14, "frozen_epochs": 1, "batch_size": 16, "lr": 2e-4}
    before = resolve_config(TrainingConfig(recipe="ce")).values() | chosen
    config = resolve_config(TrainingConfig(minutes=1.0, **given), before)  # type: ignore[arg-type]
    assert config.values() == before | {"minutes": 1.0}


def test_a_recipe_of_more_dimensions_than_the_network_has_is_measured(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Pace] = []

    def enough(config: TrainingConfig, given: object, pace: Pace, seconds: float) -> TrainingConfig:
        measured.append(pace)
        return replace(config, epoch=1, minutes=0.0)

    monkeypatch.setattr(budget, "fit", enough)
    options = {"recipe": "ce", "dim": None, "minutes": 3, "max_tuples": 32, "whitening": True}
    train_small(pipeline, pipeline / "para", **options)
    assert measured[0].whitening_s > 0


@pytest.mark.parametrize(("given", "count"), [({}, 5), ({"whitening_images": 40}, 40)])
def test_a_short_training_whitens_with_fewer_images(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, int], count: int
) -> None:
    monkeypatch.setattr(budget, "WHITENING_SHARE", 1e-6)
    monkeypatch.setattr(budget, "FEWEST_WHITENED", 5)
    chosen: list[int] = []

    def enough(config: TrainingConfig, *_: object) -> TrainingConfig:
        chosen.append(config.whitening_images)
        return replace(config, epoch=1, max_tuples=32, minutes=0.0)

    monkeypatch.setattr(budget, "fit", enough)
    train_small(pipeline, pipeline / "para", recipe="ce", minutes=3, whitening=True, **given)
    assert chosen == [count]
