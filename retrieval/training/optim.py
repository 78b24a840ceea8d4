"""The optimizer, the learning rates over time, and the moving average of the weights."""

import copy
import math

import torch
from torch import nn

from retrieval.model.embedding import EmbeddingModel
from retrieval.training.config import TrainingConfig
from retrieval.training.losses import TrainingLoss

WARMUP_START = 0.1  # share of the learning rate


def make_optimizer(
    config: TrainingConfig, model: EmbeddingModel, loss: TrainingLoss
) -> torch.optim.Optimizer:
    """Return the optimizer of all trained parameters.

    Its groups are the backbone, the rest of the model and the loss. Each is divided into weights
    that decay and weights of one dimension, which do not. A group keeps its ``base_lr`` and
    whether it ``waits`` for the end of the frozen epochs.
    """
    head = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    parts = (
        (list(model.backbone.parameters()), 1.0, True),
        (head, config.head_lr, False),
        (list(loss.parameters()), config.proxy_lr, False),
    )
    groups = []
    for parameters, factor, waits in parts:
        trained = [p for p in parameters if p.requires_grad]
        lr = config.lr * factor
        for decays in (True, False):
            params = [p for p in trained if (p.ndim > 1) == decays]
            decay = config.weight_decay if decays else 0.0
            group = {"params": params, "lr": lr, "base_lr": lr, "weight_decay": decay}
            groups += [{**group, "waits": waits}] if params else []
    if config.optimizer == "sgd":
        # Not fused: if float16 overflows in its first step, its momentum is whatever was in memory.
        return torch.optim.SGD(groups, config.lr, momentum=config.momentum)
    is_fused = model.mean.device.type == "cuda" or None  # one kernel for all parameters
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, config.lr, fused=is_fused)


def lr_factor(config: TrainingConfig, done: float) -> float:
    """Return the factor on all learning rates.

    Args:
        config: Its schedule, warm-up and number of epochs.
        done: Epochs done so far: 2.5 is half of the third.

    >>> from retrieval.training.recipes import resolve_config
    >>> config = resolve_config(TrainingConfig(lr_shrink=0.5, epoch=4))
    >>> [lr_factor(config, done) for done in (0.0, 0.9, 1.0, 2.0)]
    [1.0, 1.0, 0.5, 0.25]
    """
    progress = done / config.epoch
    if progress < config.warmup:
        factor = WARMUP_START + (1 - WARMUP_START) * progress / config.warmup
    elif config.schedule == "cosine":
        rest = (progress - config.warmup) / (1 - config.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))
    else:
        factor = 1.0
    if config.schedule == "shrink":
        factor *= config.lr_shrink ** (int(done) // config.shrink_every)
    return factor


def set_rates(optimizer: torch.optim.Optimizer, config: TrainingConfig, done: float) -> bool:
    """Set the learning rates after ``done`` epochs; return whether the backbone is frozen.

    Frozen parameters get no gradients: the optimizer's moments and the gradient norm do not see
    them, and no backward pass goes through them.
    """
    factor = lr_factor(config, done)
    is_waiting = int(done) < config.frozen_epochs
    for group in optimizer.param_groups:
        is_frozen = group["waits"] and is_waiting
        group["lr"] = 0.0 if is_frozen else group["base_lr"] * factor
        for parameter in group["params"]:
            parameter.requires_grad_(not is_frozen)
    return is_waiting


class MovingAverage:
    """A copy of a model whose weights follow it slowly.

    ``w = d w + (1 - d) w_new`` after each step, with ``d = min(decay, (1 + n) / (10 + n))`` in
    step n, so that the first weights fade quickly (as in TensorFlow, Abadi et al.). Batch
    norm statistics are averaged in the same way.
    """

    def __init__(self, model: EmbeddingModel, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Follow the weights of ``model`` after one more step."""
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        state = model.state_dict()
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(state[name], share)
            else:
                value.copy_(state[name])
        self.steps += 1
