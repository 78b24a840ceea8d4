"""The optimizer of a recipe, its learning rates over time, and the moving average of weights."""

import copy
import math

import torch
from torch import nn

from retrieval.model.embedding import EmbeddingModel
from retrieval.training.config import Recipe
from retrieval.training.losses import Objective

WARMUP_START = 0.1  # of the learning rate


def make_optimizer(
    recipe: Recipe, model: EmbeddingModel, objective: Objective
) -> torch.optim.Optimizer:
    """Return the optimizer of all parameters that are trained.

    Its groups are the backbone, the rest of the model and the objective, each divided into weights
    that decay and those of one dimension, which do not. Each group keeps its ``base_lr`` and
    whether it ``waits`` for the end of the frozen epochs.
    """
    head = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    parts = (
        (list(model.backbone.parameters()), 1.0, True),
        (head, recipe.head_lr, False),
        (list(objective.parameters()), recipe.proxy_lr, False),
    )
    groups = []
    for parameters, factor, waits in parts:
        trained = [p for p in parameters if p.requires_grad]
        lr = recipe.lr * factor
        for decays in (True, False):
            params = [p for p in trained if (p.ndim > 1) == decays]
            decay = recipe.weight_decay if decays else 0.0
            group = {"params": params, "lr": lr, "base_lr": lr, "weight_decay": decay}
            groups += [{**group, "waits": waits}] if params else []
    if recipe.optimizer == "sgd":
        # Not fused: if float16 overflows in its first step, its momentum is whatever was in memory.
        return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum)
    is_fused = model.mean.device.type == "cuda" or None  # one kernel for all parameters
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, recipe.lr, fused=is_fused)


def lr_factor(recipe: Recipe, done: float) -> float:
    """Return what the learning rates are multiplied by.

    Args:
        recipe: Its schedule, warm-up and number of epochs.
        done: Epochs behind us: 2.5 is the middle of the third one.

    >>> recipe = Recipe("", lr_shrink=0.5, epoch=4)
    >>> [lr_factor(recipe, done) for done in (0.0, 0.9, 1.0, 2.0)]
    [1.0, 1.0, 0.5, 0.25]
    """
    progress = done / recipe.epoch
    if progress < recipe.warmup:
        factor = WARMUP_START + (1 - WARMUP_START) * progress / recipe.warmup
    elif recipe.schedule == "cosine":
        rest = (progress - recipe.warmup) / (1 - recipe.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))
    else:
        factor = 1.0
    if recipe.schedule == "shrink":
        factor *= recipe.lr_shrink ** (int(done) // recipe.shrink_every)
    return factor


def set_rates(optimizer: torch.optim.Optimizer, recipe: Recipe, done: float) -> bool:
    """Set the learning rates for what is ``done``, in epochs; return whether the backbone waits.

    What waits has no gradients, so that neither the optimizer's moments nor the norm of the
    gradients know of it, and no backward pass goes through it.
    """
    factor = lr_factor(recipe, done)
    is_waiting = int(done) < recipe.frozen_epochs
    for group in optimizer.param_groups:
        is_frozen = group["waits"] and is_waiting
        group["lr"] = 0.0 if is_frozen else group["base_lr"] * factor
        for parameter in group["params"]:
            parameter.requires_grad_(not is_frozen)
    return is_waiting


class MovingAverage:
    """A model whose weights follow those of another one slowly.

    ``w = d w + (1 - d) w_new`` after each step, with ``d = min(decay, (1 + n) / (10 + n))`` in
    step n, so that the first weights are soon forgotten (as in Abadi et al.'s TensorFlow).
    Statistics of batch norm are averaged alike.
    """

    def __init__(self, model: EmbeddingModel, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Take in the weights of ``model`` after one more step."""
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        state = model.state_dict()
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(state[name], share)
            else:
                value.copy_(state[name])
        self.steps += 1
