"""Recipes: training options that belong together, by the name that ``--recipe`` takes.

A recipe sets options; those that it leaves out are as in ``original``, and each can be overridden
by its flag. Weights of one dimension (biases, scales) never decay.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from retrieval.data.formats import InputError
from retrieval.model.model_config import check_arch
from retrieval.training.config import (
    DEFAULTS,
    FITTED,
    OPTIONS,
    RULES,
    RUN,
    SCALED,
    AugmentationName,
    RecipeName,
    TrainingConfig,
)


@dataclass(frozen=True)
class Recipe:
    """Options that belong together.

    Attributes:
        source: Where they come from, and what differs from there.
        options: The options that the recipe sets; the others are None.
    """

    source: str
    options: TrainingConfig


RECIPES: dict[RecipeName, Recipe] = {
    "original": Recipe(
        "the project's first command, with a temperature, negatives from the whole batch, a BNNeck "
        "and frozen batch norms",
        TrainingConfig(),
    ),
    "ce": Recipe(
        "cross-entropy with label smoothing and a BNNeck as in fast-reid's FastRetri (He et al., "
        "arXiv:2006.02631), and supervised contrast beside it (Khosla et al., NeurIPS 2020, "
        "arXiv:2004.11362); the optimizer, its rates, the pooling and the augmentation were chosen "
        "by measurement (docs/training.md)",
        TrainingConfig(
            scale=1.25,
            pool="avg",
            dim=512,
            frozen_stages=0.5,
            whitening=True,
            encode_tta="flip",
            encode_scale=1.25,
            loss="ce+supcon",
            sampler="pk",
            batch_size=32,
            epoch=30,
            optimizer="adamw",
            lr=3e-4,
            head_lr=5.0,
            proxy_lr=10.0,
            weight_decay=1e-4,
            schedule="cosine",
            warmup=0.05,
            clip=10.0,
        ),
    ),
}


MANY_PASSES = 10  # through the images, from which on they need larger changes


def augmentation_for(recipe: RecipeName, passes: float) -> AugmentationName:
    """Return a recipe's augmentation for a training that sees each image so many times.

    Long trainings need larger changes (Steiner et al., How to train your ViT?, TMLR 2022,
    arXiv:2106.10270): ``ce`` takes small crops for 5 passes and large ones for 20, measured on
    photographs (docs/training.md).

    >>> augmentation_for("ce", 5), augmentation_for("ce", 20)
    ('light', 'crop')
    """
    is_long = recipe == "ce" and passes >= MANY_PASSES
    return "crop" if is_long else DEFAULTS["augmentation"]


def lr_for_batch(recipe: RecipeName, batch_size: int) -> float:
    """Return a recipe's learning rate for another batch size than its own.

    For SGD it grows with the batch size (Goyal et al., Accurate, Large Minibatch SGD,
    arXiv:1706.02677), for Adam with its square root (Malladi et al., On the SDEs and Scaling Rules
    for Adaptive Gradient Algorithms, arXiv:2205.10287). Three significant digits.

    >>> lr_for_batch("ce", 128)
    0.0006
    """
    own = TrainingConfig().with_values(DEFAULTS).with_values(RECIPES[recipe].options.given())
    ratio = batch_size / own.batch_size
    return float(f"{own.lr * (ratio if own.optimizer == 'sgd' else math.sqrt(ratio)):.3g}")


def resolve_config(
    given: TrainingConfig, before: Mapping[str, Any] | None = None
) -> TrainingConfig:
    """Fill in the options that are left out, and check all of them.

    From weak to strong: the defaults, the recipe, the run that is resumed, what is given. The
    learning rate of a recipe follows the batch size, its augmentation the epochs. A resumed run
    keeps its options, unless a recipe is named again; what --minutes chose stays even then.

    Args:
        given: The options of the command.
        before: The options of the run that is resumed.

    >>> resolve_config(TrainingConfig(recipe="ce", lr=0.1)).lr
    0.1
    """
    if given.recipe not in (None, *get_args(RecipeName)):
        raise InputError(f"--recipe must be one of {', '.join(RECIPES)}; got {given.recipe}")
    if given.minutes and given.epoch is not None:
        raise InputError("--minutes chooses the epochs; leave --epoch or --minutes out")
    resumed = {
        name: value
        for name, value in (before or {}).items()
        if name in RULES
        and RULES[name].on_resume != "free"
        and (not given.recipe or OPTIONS[name].group == RUN or (given.minutes and name in FITTED))
    }
    name = given.recipe or resumed.get("recipe") or DEFAULTS["recipe"]
    config = given.with_values(DEFAULTS).with_values(RECIPES[name].options.given())
    config = config.with_values(resumed | {"recipe": name})
    if "augmentation" not in resumed:
        epochs = config.epoch if given.epoch is None else given.epoch
        config = config.with_values({"augmentation": augmentation_for(name, epochs)})
    if "lr" not in resumed:
        config = config.with_values(
            {"lr": lr_for_batch(name, given.batch_size or config.batch_size)}
        )
    # What --minutes made of these, not what it started from.
    kept = SCALED if given.minutes and before else ()
    config = config.with_values({k: v for k, v in given.given().items() if k not in kept})
    config.check()
    check_arch(config.arch)
    return config
