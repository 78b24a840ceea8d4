"""Training for a number of minutes: what is chosen, and that it can be repeated."""

import re
import time
from pathlib import Path

import pytest

from retrieval.data.formats import InputError
from retrieval.training import budget
from retrieval.training.budget import Pace
from retrieval.training.config import TrainingConfig
from retrieval.training.recipes import lr_for_batch, resolve_config
from tests.conftest import train_small

TEN = Pace(steps=5, training_s=9.0, validation_s=1.0)  # ten seconds an epoch


def fit(seconds: float, pace: Pace = TEN, **options: object) -> TrainingConfig:
    given = TrainingConfig(minutes=seconds / 60, **options)  # type: ignore[arg-type]
    return budget.fit(resolve_config(given), given, pace, seconds)


def test_as_many_epochs_as_fit() -> None:
    assert fit(600, recipe="ce").epoch == 57  # a twentieth is kept in reserve
    assert fit(11, recipe="ce").epoch == 1
    assert fit(600, recipe="ce").minutes == 0


def test_few_steps_take_small_batches_and_small_rates() -> None:
    recipe = resolve_config(TrainingConfig(recipe="ce"))
    long, short = fit(600, recipe="ce"), fit(100, recipe="ce")
    assert long.batch_size == recipe.batch_size and long.lr == recipe.lr
    assert short.batch_size < recipe.batch_size
    assert short.lr == lr_for_batch("ce", short.batch_size)
    assert fit(11, recipe="ce").batch_size == budget.SMALLEST_BATCH
    # What the command sets stays.
    chosen = fit(60, recipe="ce", batch_size=100, lr=0.3)
    assert (chosen.batch_size, chosen.lr) == (100, 0.3)


def test_frozen_epochs_keep_their_share() -> None:
    options = {"frozen_epochs": 3, "shrink_every": 10, "schedule": "shrink"}
    whole = resolve_config(TrainingConfig(recipe="ce", **options))  # type: ignore[arg-type]
    chosen = fit(600, recipe="ce", **options)
    assert chosen.frozen_epochs == round(3 * chosen.epoch / whole.epoch) > 3
    assert chosen.shrink_every > 10
    short = fit(11, recipe="ce", **options)
    assert (short.frozen_epochs, short.shrink_every) == (0, 1)


def test_a_budget_below_one_epoch_is_refused() -> None:
    with pytest.raises(InputError, match=r"too short for one epoch, .*; use --minutes=0\.2,"):
        fit(5)
    for epoch in (0, 3):
        with pytest.raises(InputError, match="leave --epoch or --minutes out"):
            resolve_config(TrainingConfig(minutes=1, epoch=epoch))


def test_rates_follow_the_batch_size() -> None:
    assert resolve_config(TrainingConfig(batch_size=16)).lr == 5e-5  # adam: the square root
    recipe = resolve_config(TrainingConfig(recipe="ce"))
    half = recipe.batch_size // 2
    # A resumed run keeps its rate.
    before = resolve_config(TrainingConfig(recipe="ce")).values()
    assert resolve_config(TrainingConfig(batch_size=half), before).lr == recipe.lr
    assert resolve_config(TrainingConfig(recipe="ce", batch_size=half)).lr < recipe.lr


def test_a_training_in_minutes_repeats_to_the_byte(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    options = {"recipe": "ce", "max_tuples": 16}
    begin = time.monotonic()
    first = train_small(pipeline, pipeline / "first", minutes=0.05, **options)
    assert time.monotonic() - begin < 2 * 3 + 5  # of three seconds; other programs run beside
    found = re.search(r"take (.*) in the place of --minutes=0.05", caplog.text)
    assert found is not None
    flags = dict(flag.removeprefix("--").split("=") for flag in found[1].split())
    assert int(flags["epoch"]) == len(list((pipeline / "first").glob("model.ep*"))) > 1
    chosen = {name: float(value) if name == "lr" else int(value) for name, value in flags.items()}
    second = train_small(pipeline, pipeline / "second", **{**options, **chosen})
    assert second.name == first.name
    assert second.read_bytes() == first.read_bytes()


def test_a_resumed_run_keeps_what_was_chosen(pipeline: Path) -> None:
    options = {"recipe": "ce", "max_tuples": 16, "minutes": 0.05}
    first = train_small(pipeline, pipeline / "run", **options)
    before = first.read_bytes()
    assert train_small(pipeline, pipeline / "run", resume="auto", **options) == first
    assert first.read_bytes() == before
