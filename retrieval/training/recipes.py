"""Recipes: what belongs together in training, by the name that ``--recipe`` takes.

A recipe sets all options of ``Recipe``; each can be overridden by the flag of its name. What a
source does not say is as in ``original``. Where sources clip gradients by value, here it is by
norm, and weights of one dimension (biases, scales) never decay.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from retrieval.data.formats import InputError
from retrieval.training.config import Recipe, idle

log = logging.getLogger(__name__)

ORIGINAL = Recipe(source="the project's first command, and a temperature")
_CROSS_ENTROPY = Recipe(
    source="fast-reid, projects/FastRetri, cars.yml; there with 2048 dimensions, no projection",
    dim=512,
    neck="after",
    frozen_bn=True,
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
)
_PROXY_ANCHOR = Recipe(
    source="Kim et al., Proxy Anchor Loss, CVPR 2020, arXiv:2003.13911, and its code for Cars196; "
    "here crops of 0.16 to 1 of the area and color jitter, where its code has 0.08 to 1 and none",
    pool="avgmax",
    dim=512,
    frozen_bn=True,
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
)

DEFAULT = "original"
RECIPES: dict[str, Recipe] = {
    "original": ORIGINAL,
    "ce": _CROSS_ENTROPY,
    "dml_ce": replace(
        _CROSS_ENTROPY,
        source="Boudiaf et al., A Unifying Mutual Information View of Metric Learning, ECCV 2020, "
        "arXiv:2003.08983, and its code (dml_cross_entropy); here without its dropout, and with a "
        "warm-up of 5% of the training where it has 100 iterations",
        pool="avg",
        label_smoothing=0.1,
        clip=0.0,
    ),
    "proxy_anchor": _PROXY_ANCHOR,
    "supcon": replace(
        _PROXY_ANCHOR,
        source="Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, arXiv:2004.11362, "
        "temperature 0.1; the rest as proxy_anchor",
        loss="supcon",
        sampler="pk",
        head_lr=10.0,
    ),
    "ms": replace(
        _PROXY_ANCHOR,
        source="Wang et al., Multi-Similarity Loss, CVPR 2019, arXiv:1904.06627, with the batches "
        "of its code, 16 x 5; the rest as proxy_anchor",
        loss="ms",
        sampler="pk",
        images_per_class=5,
        batch_size=80,
        head_lr=10.0,
    ),
    "vit": Recipe(
        source="UNICOM's fine-tuning (An et al., ICLR 2023, arXiv:2304.05884): a margin of 0.25 "
        "rad, scale 32, on a DINO ViT-S/16 as in hyp_metric; here without RandAugment and random "
        "erasing",
        arch="timm/vit_small_patch16_224.dino",
        dim=384,
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
    "reid": Recipe(
        source="He et al., FastReID, arXiv:2006.02631, vehicles: cross entropy and batch-hard "
        "triplets, P x K = 4 x 16; here AdamW where it has Adam, and no random erasing, which "
        "hurts on other cameras",
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
}


def resolve(
    name: str | None, given: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> Recipe:
    """Return the recipe of that name, with the options that are given in place of its own.

    Args:
        name: One of ``RECIPES``; None means the run that is continued, else the default.
        given: Option -> value; what is None or no option of a recipe is passed over.
        before: The options of the run that is continued.

    >>> resolve("ce", {"lr": 0.1, "dim": None}).lr
    0.1

    Another loss than the recipe's does not take over its scale and margin, whose units differ:

    >>> resolve("proxy_anchor", {"loss": "arcface"}).margin
    """
    if name not in (None, *RECIPES):
        raise InputError(f"--recipe must be one of {', '.join(RECIPES)}; got {name}")
    recipe = RECIPES[name or DEFAULT]
    if name is None and before is not None:
        recipe = replace(recipe, **{key: before[key] for key in recipe.options() if key in before})
    known = {key: given[key] for key in recipe.options() if given.get(key) is not None}
    if known.get("loss", recipe.loss) != recipe.loss:
        recipe = replace(recipe, logit_scale=None, margin=None)
    recipe = replace(recipe, **known)
    recipe.check()
    if without_effect := idle(recipe, known):
        flags = ", ".join(f"--{name}" for name in without_effect)
        log.warning("%s: without effect on --loss=%s and the other options", flags, recipe.loss)
    return recipe
