"""Options of training: recipes, what overrides them, and what is refused."""

from dataclasses import fields, replace
from typing import Any, get_args

import pytest

import train
from retrieval.data.formats import InputError
from retrieval.training import checkpointing, config
from retrieval.training.config import RecipeName, TrainingConfig
from retrieval.training.recipes import RECIPES, resolve_config

BATCHED: dict[str, Any] = {"negatives": "batch", "temperature": 0.2}


def test_every_field_is_an_option_with_help_a_rule_and_a_flag() -> None:
    parser = train.make_parser()
    given = vars(parser.parse_args(["--dpath=x", "--save_path=x"]))
    shown = "".join(parser.format_help().split())
    for field in fields(TrainingConfig):
        assert field.name in config.OPTIONS and field.name in config.RULES
        assert given[field.name] is None  # left out
        assert f"--{field.name}" in shown
        assert "".join(config.OPTIONS[field.name].help.split()) in shown


def test_every_recipe_resolves_and_flags_override_it() -> None:
    assert set(RECIPES) == set(get_args(RecipeName))
    parser = train.make_parser()
    for name, recipe in RECIPES.items():
        plain = resolve_config(TrainingConfig(recipe=name))
        assert recipe.source
        assert recipe.options.given().items() <= plain.values().items()
        changed = resolve_config(TrainingConfig(recipe=name, lr=0.5, clip=0.0))
        assert changed == replace(plain, lr=0.5, clip=0.0)
    given = vars(parser.parse_args(["--dpath=x", "--save_path=y", "--recipe=ce", "--lr=0.2"]))
    found = resolve_config(TrainingConfig().with_values(given))
    assert found == replace(resolve_config(TrainingConfig(recipe="ce")), lr=0.2)


def test_nothing_is_left_out_after_resolving() -> None:
    optional = {name for name, value in config.DEFAULTS.items() if value is None}
    assert optional == {"dim", "logit_scale", "margin"}
    assert {
        n for n, value in resolve_config(TrainingConfig()).values().items() if value is None
    } == optional


def test_a_resumed_run_keeps_its_options() -> None:
    before = resolve_config(TrainingConfig(recipe="ce", lr=0.2, seed=3, device="cpu")).values()
    free = {name for name, rules in config.RULES.items() if rules.on_resume == "free"}
    found = resolve_config(TrainingConfig(), before).values()
    assert {n: v for n, v in found.items() if n not in free} == {
        n: v for n, v in before.items() if n not in free
    }
    assert found["device"] == "auto"  # belongs to the command
    assert resolve_config(TrainingConfig(epoch=7), before).epoch == 7
    again = resolve_config(TrainingConfig(recipe="ce"), before)
    assert (again.lr, again.seed) == (RECIPES["ce"].options.lr, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "no"}, "--loss must be one of tuple, ce"),
        ({"recipe": "no"}, "--recipe must be one of original, ce"),
        ({"neck": "before"}, "needs --loss=ce"),
        ({"logit_scale": 0.0, "loss": "arcface"}, "--logit_scale must be above 0"),
        ({"warmup": 1.0}, "--warmup must be at least 0 and below 1"),
        ({"lr": float("nan")}, "--lr must be above 0; got nan"),
        ({"lr": float("inf")}, "--lr must be above 0; got inf"),
        ({"sampler": "pk", "images_per_class": 65}, "at most --batch_size"),
        ({"loss": "ce", "neck": "after", "batch_size": 1}, "needs a --batch_size above 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_config(TrainingConfig(**options))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({**BATCHED, "loss": "ce"}, "--negatives, --temperature"),
        ({"sampler": "pk", "images_per_class": 2}, "--sampler, --images_per_class"),
        ({"label_smoothing": 0.2, "momentum": 0.9}, "--label_smoothing, --momentum"),
        ({"lr_shrink": 0.5, "schedule": "cosine"}, "--lr_shrink"),
        ({"images_per_class": 2, "loss": "ms"}, "--images_per_class"),
        ({"lr_shrink": 0.5, **BATCHED}, ""),
        ({"loss": "ce+triplet", "margin": 0.2, "label_smoothing": 0.2, "sampler": "pk"}, ""),
    ],
)
def test_options_without_effect_are_named_once(
    options: dict[str, Any], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = TrainingConfig(**options)
    config.warn_without_effect(resolve_config(given), given)
    found = [record.message.split(":")[0] for record in caplog.records]
    assert {*found} == ({", ".join(sorted(named.split(", "), key=order))} if named else set())


@pytest.mark.parametrize(
    ("options", "is_named"),
    [
        ({}, False),
        ({"lr_shrink": 0.5}, False),
        ({"warmup": 0.1}, True),
        ({"schedule": "cosine"}, True),
    ],
)
def test_more_epochs_are_named_if_they_change_learning_rates(
    options: dict[str, Any], is_named: bool, caplog: pytest.LogCaptureFixture
) -> None:
    before = resolve_config(TrainingConfig(epoch=2, **options)).values()
    longer = resolve_config(TrainingConfig(epoch=4), before)
    checkpointing.check_resumable(longer, before, 128, "model.ep1")
    assert ("--epoch was 2 and is 4 now" in caplog.text) == is_named
    assert len(caplog.records) == is_named


def order(flag: str) -> int:
    """Return the place of an option among the fields."""
    return [field.name for field in fields(TrainingConfig)].index(flag.removeprefix("--"))
