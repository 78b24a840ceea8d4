"""The options of training that belong together, and their flags."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

from retrieval.data.formats import InputError
from retrieval.model.embedding import Neck
from retrieval.model.pooling import Pool
from retrieval.training import augment

Loss = Literal[
    "tuple",
    "ce",
    "norm_softmax",
    "proxy_anchor",
    "arcface",
    "cosface",
    "supcon",
    "ms",
    "triplet",
    "ce+triplet",
]
Negatives = Literal["tuple", "batch"]
Sampler = Literal["random", "pk"]
Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["shrink", "cosine"]


@dataclass(frozen=True)
class Recipe:
    """All options that belong together; ``HELP`` says what each is.

    The defaults are those of the project's first command, with a temperature.
    """

    source: str
    arch: str = "resnet50"
    pool: Pool = "gem"
    dim: int | None = None
    neck: Neck = "none"
    frozen_bn: bool = False
    loss: Loss = "tuple"
    negatives: Negatives = "tuple"
    temperature: float = 0.1
    logit_scale: float | None = None
    margin: float | None = None
    label_smoothing: float = 0.1
    sampler: Sampler = "random"
    images_per_class: int = 4
    batch_size: int = 64
    epoch: int = 2
    optimizer: Optimizer = "adam"
    lr: float = 0.0001
    head_lr: float = 1.0
    proxy_lr: float = 1.0
    weight_decay: float = 0.0
    momentum: float = 0.0
    schedule: Schedule = "shrink"
    lr_shrink: float = 0.9
    shrink_every: int = 1
    warmup: float = 0.0
    frozen_epochs: int = 0
    clip: float = 0.0
    ema: float = 0.0
    augmentation: augment.Augmentation = "light"

    def options(self) -> dict[str, Any]:
        """Return option -> value, of all that a flag can set."""
        return {name: getattr(self, name) for name in HELP}

    def check(self) -> None:
        """Refuse values that make no sense."""
        for name, hint in get_type_hints(Recipe).items():
            choices = [c for c in get_args(hint) if isinstance(c, str)]
            if choices and getattr(self, name) not in choices:
                raise InputError(f"--{name} must be one of {', '.join(choices)}")
        for name in ("batch_size", "images_per_class", "lr", "temperature", "shrink_every"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name} must be above 0; got {getattr(self, name)}")
        for name in ("label_smoothing", "warmup", "ema", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--{name} must be at least 0 and below 1")
        if self.logit_scale is not None and self.logit_scale <= 0:
            raise InputError(f"--logit_scale must be above 0; got {self.logit_scale}")
        positive = ("lr_shrink", "head_lr", "proxy_lr")
        if min(getattr(self, name) for name in positive) <= 0 or (self.dim or 1) < 1:
            raise InputError(
                "--lr_shrink, --head_lr and --proxy_lr must be above 0, --dim at least 1"
            )
        if min(self.weight_decay, self.clip, self.frozen_epochs) < 0:
            raise InputError("--weight_decay, --clip and --frozen_epochs must be at least 0")
        if self.neck == "before" and "ce" not in self.loss.split("+"):
            raise InputError("--neck=before is a part of the classifier; it needs --loss=ce")
        if self.neck != "none" and self.loss != "tuple" and self.batch_size < 2:
            raise InputError(f"--neck={self.neck} is a batch norm; it needs a --batch_size above 1")
        if self.sampler == "pk" and self.images_per_class > self.batch_size:
            raise InputError("--images_per_class must be at most --batch_size")


HELP = {
    "arch": "the backbone: resnet18 to resnet152, or timm/NAME",
    "pool": "of the backbone's features",
    "dim": "length of an embedding; None is the width of the backbone",
    "neck": "a batch norm at the end: the embedding is taken before or after it",
    "frozen_bn": "leave the backbone's batch norms as they are, unless its weights are random",
    "loss": "what training lowers",
    "negatives": "of the loss tuple: those of the tuple, or all other classes in the step",
    "temperature": "of the softmax over similarities, in tuple and supcon",
    "logit_scale": "of proxy and margin losses; None is the loss's own",
    "margin": "of proxy, margin and triplet losses; None is the loss's own",
    "label_smoothing": "of ce",
    "sampler": "of all losses but tuple: images in any order, or in groups of one class",
    "images_per_class": "of such a group",
    "batch_size": "tuples in a step; images for all losses but tuple",
    "epoch": "epochs in all, counting those up to --start_epoch",
    "optimizer": "adamw decays the weights apart from the gradients",
    "lr": "learning rate of the backbone at its highest",
    "head_lr": "times --lr: that of pooling and projection",
    "proxy_lr": "times --lr: that of proxies or classifier",
    "weight_decay": "of all weights but biases and scales",
    "momentum": "of sgd",
    "schedule": "of the learning rate: by a factor after some epochs, or a half cosine",
    "lr_shrink": "the learning rate is multiplied by it after each --shrink_every epochs",
    "shrink_every": "epochs",
    "warmup": "share of the training in which the learning rate rises from a tenth",
    "frozen_epochs": "so many first epochs leave the backbone as it is",
    "clip": "largest norm of the gradients; 0 is any",
    "ema": "validate and keep a moving average of the weights, such as 0.999; 0 is none",
    "augmentation": "random changes of the training images",
}


def idle(recipe: Recipe, given: Iterable[str]) -> list[str]:
    """Return those of the given options that do nothing beside the recipe's others.

    >>> idle(Recipe("", loss="ce"), ["lr", "temperature", "momentum"])
    ['temperature', 'momentum']
    """
    losses = set(recipe.loss.split("+"))
    scaled = {"norm_softmax", "proxy_anchor", "arcface", "cosface"}
    does_something = {
        "negatives": "tuple" in losses,
        "temperature": losses & {"tuple", "supcon"},
        "logit_scale": losses & scaled,
        "margin": losses & {"proxy_anchor", "arcface", "cosface", "triplet"},
        "label_smoothing": "ce" in losses,
        "sampler": "tuple" not in losses,
        "images_per_class": "tuple" not in losses and recipe.sampler == "pk",
        "proxy_lr": losses & {"ce", *scaled},
        "momentum": recipe.optimizer == "sgd",
        "lr_shrink": recipe.schedule == "shrink",
        "shrink_every": recipe.schedule == "shrink",
    }
    return [name for name in given if not does_something.get(name, True)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each option; left out, it is None, which means the recipe's value."""
    hints, defaults = get_type_hints(Recipe), {f.name: f.default for f in fields(Recipe)}
    for name, text in HELP.items():
        text += f" (recipe original: {defaults[name]})"
        if hints[name] is bool:
            parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=text)
            continue
        choices = [c for c in get_args(hints[name]) if isinstance(c, str)] or None
        kinds = [k for k in get_args(hints[name]) if isinstance(k, type) and k is not NoneType]
        kind = str if choices else kinds[0] if kinds else hints[name]
        parser.add_argument(f"--{name}", choices=choices, type=kind, help=text)
