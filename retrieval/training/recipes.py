"""Recipes: training options that belong together, by the name that ``--recipe`` takes.

A recipe sets options; those that it leaves out are as in ``original``, and each can be overridden
by its flag. Where a source clips gradients by value, the recipe clips them by norm; weights of one
dimension (biases, scales) never decay.
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

    def but(self, source: str, **changes: Any) -> "Recipe":
        """Return another recipe that differs in some options."""
        return Recipe(source, self.options.with_values(changes))


_ORIGINAL = Recipe(
    "the project's first command, with a temperature, negatives from the whole batch, a BNNeck and "
    "frozen batch norms",
    TrainingConfig(),
)
_CROSS_ENTROPY = Recipe(
    "fast-reid, projects/FastRetri, cars.yml; there with 2048 dimensions, no projection",
    TrainingConfig(
        dim=512,
        neck="after",
        loss="ce",
        label_smoothing=0.4,
        batch_size=128,
        epoch=100,
        optimizer="sgd",
        lr=0.05,
        weight_decay=5e-4,
        schedule="cosine",
        warmup=0.05,
        clip=10.0,
        augmentation="crop",
    ),
)
_PROXY_ANCHOR = Recipe(
    "Kim et al., Proxy Anchor Loss, CVPR 2020, arXiv:2003.13911, and its code for Cars196; "
    "here crops of 0.16 to 1 of the area and color jitter, where its code has 0.08 to 1 and none",
    TrainingConfig(
        pool="avgmax",
        dim=512,
        neck="none",
        loss="proxy_anchor",
        logit_scale=32.0,
        margin=0.1,
        batch_size=120,
        epoch=60,
        optimizer="adamw",
        lr=1e-4,
        proxy_lr=100.0,
        weight_decay=1e-4,
        lr_shrink=0.5,
        shrink_every=10,
        frozen_epochs=5,
        clip=10.0,
        augmentation="crop",
    ),
)
RECIPES: dict[RecipeName, Recipe] = {
    "original": _ORIGINAL,
    "ce": _CROSS_ENTROPY,
    "dml_ce": _CROSS_ENTROPY.but(
        "Boudiaf et al., A Unifying Mutual Information View of Metric Learning, ECCV 2020, "
        "arXiv:2003.08983, and its code (dml_cross_entropy); here without its dropout, and with a "
        "warm-up of 5% of the training where it has 100 iterations",
        pool="avg",
        label_smoothing=0.1,
        clip=0.0,
    ),
    "proxy_anchor": _PROXY_ANCHOR,
    "supcon": _PROXY_ANCHOR.but(
        "Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, arXiv:2004.11362, "
        "temperature 0.1; the rest as proxy_anchor",
        loss="supcon",
        sampler="pk",
        head_lr=10.0,
    ),
    "ms": _PROXY_ANCHOR.but(
        "Wang et al., Multi-Similarity Loss, CVPR 2019, arXiv:1904.06627, with the batches "
        "of its code, 16 x 5; the rest as proxy_anchor",
        loss="ms",
        sampler="pk",
        images_per_class=5,
        batch_size=80,
        head_lr=10.0,
    ),
    "vit": Recipe(
        "UNICOM's fine-tuning (An et al., ICLR 2023, arXiv:2304.05884): a margin of 0.25 "
        "rad, scale 32, on a DINO ViT-S/16 as in hyp_metric; here without RandAugment and random "
        "erasing",
        TrainingConfig(
            arch="timm/vit_small_patch16_224.dino",
            dim=384,
            neck="none",
            loss="arcface",
            logit_scale=32.0,
            margin=14.3,
            batch_size=128,
            epoch=64,
            optimizer="adamw",
            lr=1e-5,
            head_lr=10.0,
            proxy_lr=10.0,
            schedule="cosine",
            warmup=0.1,
            clip=3.0,
            augmentation="crop",
        ),
    ),
    "reid": Recipe(
        "He et al., FastReID, arXiv:2006.02631, vehicles: cross entropy and batch-hard "
        "triplets, P x K = 4 x 16; here AdamW where it has Adam, and no random erasing, which "
        "hurts on other cameras",
        TrainingConfig(
            frozen_bn=False,
            dim=512,
            neck="after",
            loss="ce+triplet",
            sampler="pk",
            images_per_class=16,
            batch_size=64,
            epoch=60,
            lr=3.5e-4,
            weight_decay=5e-4,
            optimizer="adamw",
            schedule="cosine",
            warmup=0.05,
            augmentation="light",
        ),
    ),
}


def lr_for_batch(recipe: RecipeName, batch_size: int) -> float:
    """Return a recipe's learning rate for another batch size than its own.

    For SGD it grows with the batch size (Goyal et al., Accurate, Large Minibatch SGD,
    arXiv:1706.02677), for Adam with its square root (Malladi et al., On the SDEs and Scaling Rules
    for Adaptive Gradient Algorithms, arXiv:2205.10287). Three significant digits.

    >>> lr_for_batch("proxy_anchor", 30)
    5e-05
    """
    own = TrainingConfig().with_values(DEFAULTS).with_values(RECIPES[recipe].options.given())
    ratio = batch_size / own.batch_size
    return float(f"{own.lr * (ratio if own.optimizer == 'sgd' else math.sqrt(ratio)):.3g}")


def resolve_config(
    given: TrainingConfig, before: Mapping[str, Any] | None = None
) -> TrainingConfig:
    """Fill in the options that are left out, and check all of them.

    From weak to strong: the defaults, the recipe, the run that is resumed, what is given. The
    learning rate of a recipe follows the batch size. A resumed run keeps its options, unless a
    recipe is named again; what --minutes chose stays even then.

    Args:
        given: The options of the command.
        before: The options of the run that is resumed.

    >>> resolve_config(TrainingConfig(recipe="ce", lr=0.1)).lr
    0.1

    A loss other than the recipe's does not inherit its scale and margin, whose units differ:

    >>> resolve_config(TrainingConfig(recipe="proxy_anchor", loss="arcface")).margin
    """
    if given.recipe not in (None, *get_args(RecipeName)):
        raise InputError(f"--recipe must be one of {', '.join(RECIPES)}; got {given.recipe}")
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
    if "lr" not in resumed:
        config = config.with_values(
            {"lr": lr_for_batch(name, given.batch_size or config.batch_size)}
        )
    if given.loss not in (None, config.loss):
        config = config.with_values({"logit_scale": None, "margin": None})
    config = config.with_values(given.given())
    config.check()
    check_arch(config.arch)
    return config
