"""Options of training: recipes, what overrides them, and what is refused."""

from dataclasses import replace

import pytest

import train
from retrieval.data.formats import InputError
from retrieval.training import recipes
from retrieval.training.config import HELP, Recipe


def test_every_recipe_resolves_and_every_option_has_a_flag_and_overrides() -> None:
    parser = train.make_parser()
    flags = {action.dest: action for action in parser._actions}
    assert set(HELP) <= set(flags)
    assert set(HELP) == set(Recipe("").options())
    for name, recipe in recipes.RECIPES.items():
        assert recipes.resolve(name, {}) == recipe
        assert recipe.source
        assert recipes.resolve(name, {"lr": 0.5, "clip": 0.0}) == replace(recipe, lr=0.5, clip=0.0)
    given = vars(parser.parse_args(["--dpath=x", "--save_path=y", "--recipe=ce", "--lr=0.2"]))
    assert recipes.resolve(given["recipe"], given) == replace(recipes.RECIPES["ce"], lr=0.2)


def test_another_loss_does_not_inherit_scale_and_margin() -> None:
    found = recipes.resolve("vit", {"loss": "cosface"})
    assert (found.logit_scale, found.margin) == (None, None)
    found = recipes.resolve("vit", {"loss": "cosface", "margin": 0.3})
    assert (found.logit_scale, found.margin) == (None, 0.3)
    assert recipes.resolve("vit", {"loss": "arcface"}) == recipes.RECIPES["vit"]


def test_a_continued_run_keeps_its_options() -> None:
    before = recipes.resolve("ce", {"lr": 0.2}).options()
    assert recipes.resolve(None, {}, before).options() == before
    assert recipes.resolve(None, {"epoch": 7}, before).options() == before | {"epoch": 7}
    assert recipes.resolve("ce", {}, before) == recipes.RECIPES["ce"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "no"}, "--loss must be one of tuple, ce"),
        ({"neck": "before"}, "needs --loss=ce"),
        ({"logit_scale": 0.0, "loss": "norm_softmax"}, "--logit_scale must be above 0"),
        ({"warmup": 1.0}, "--warmup must be at least 0 and below 1"),
        ({"sampler": "pk", "images_per_class": 65}, "at most --batch_size"),
        ({"loss": "ce", "neck": "after", "batch_size": 1}, "needs a --batch_size above 1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipes.resolve("original", options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"negatives": "batch", "temperature": 0.2, "loss": "ce"}, "--negatives, --temperature"),
        ({"sampler": "pk", "images_per_class": 2}, "--sampler, --images_per_class"),
        ({"label_smoothing": 0.2, "momentum": 0.9}, "--label_smoothing, --momentum"),
        ({"lr_shrink": 0.5, "schedule": "cosine"}, "--lr_shrink"),
        ({"images_per_class": 2, "loss": "ms"}, "--images_per_class"),
        ({"lr_shrink": 0.5, "temperature": 0.2, "negatives": "batch"}, ""),
        ({"loss": "ce+triplet", "margin": 0.2, "label_smoothing": 0.2, "sampler": "pk"}, ""),
    ],
)
def test_options_without_effect_are_named_once(
    options: dict[str, object], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    recipes.resolve("original", options)
    found = [record.message.split(":")[0] for record in caplog.records]
    assert found == ([named] if named else [])
