"""Training: one step, one epoch, and all that changes with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from retrieval.compute import collectives, devices, distributed
from retrieval.data.formats import InputError
from retrieval.data.image_loader import AsyncCopy
from retrieval.model.embedding import EmbeddingModel
from retrieval.training import gradient_cache, losses, monitor, optim
from retrieval.training.config import Recipe
from retrieval.training.dataset import TrainingData
from retrieval.training.losses import Objective
from retrieval.training.monitor import Monitor, Progress, Row, mean_similarities
from retrieval.training.optim import MovingAverage
from retrieval.training.samplers import ClassBatches, Source, TupleBatches
from retrieval.training.step_loader import StepInput, seed_torch, step_inputs

MODEL = 4  # an entry of a seed, as in batches.py


class Checkpointer(Protocol):
    """Who writes checkpoints within an epoch."""

    def is_due(self) -> bool:
        """Return whether it is time for one."""

    def keep(self, epoch: int, rows: Sequence[Row]) -> None:
        """Write one, with the rows of the steps of this epoch so far."""


@dataclass
class Trainer:
    """The model and everything that changes with it while it is trained.

    What is random in a step follows from (seed, epoch, step), so that no state of a generator has
    to be kept: to continue, it takes ``state()`` and the number of the next step. It is the same in
    any number of processes, which take each step together (data_parallel.py).

    Attributes:
        model: On its device.
        objective: The loss, with its own parameters, on the same device.
        source: Of the batches.
        recipe: The learning rates over time, augmentation, clipping, moving average.
        micro_batch: Images whose activations are kept at once.
        dtype: Of the convolutions.
        seed: Of what is random in a step.
    """

    model: EmbeddingModel
    objective: Objective
    source: Source
    recipe: Recipe
    micro_batch: int
    dtype: torch.dtype
    seed: int
    optimizer: torch.optim.Optimizer = field(init=False)
    average: MovingAverage | None = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    recent: list[Row] = field(init=False, default_factory=list)  # of the epochs before

    def __post_init__(self) -> None:
        self.optimizer = optim.make_optimizer(self.recipe, self.model, self.objective)
        self.scaler = devices.gradient_scaler(self.device, self.dtype)
        is_averaged = self.recipe.ema > 0
        self.average = MovingAverage(self.model, self.recipe.ema) if is_averaged else None

    @property
    def device(self) -> torch.device:
        return self.model.mean.device

    @property
    def result(self) -> EmbeddingModel:
        """The model to validate and to keep: the moving average where there is one."""
        return self.model if self.average is None else self.average.model

    def train_epoch(
        self,
        images: np.ndarray,
        epoch: int,
        show_batch: int,
        done: Sequence[Row] = (),
        keeper: Checkpointer | None = None,
    ) -> dict[str, float]:
        """Go once through an epoch, and return its mean loss and similarities.

        Args:
            images: (n_image, 3, side, side) uint8, may be a memory map.
            epoch: Its number, from 0.
            show_batch: Show the means of so many steps.
            done: The rows of the steps that are behind us already.
            keeper: Asked after each step whether it is time for a checkpoint.

        Raises:
            InputError: The loss, a gradient or a weight is no longer finite; in float16, where
                single steps may overflow and are left out, all of them were.
        """
        self.model.train()
        self.objective.train()
        count, scale = len(self.source.epoch(epoch)), self.scaler.get_scale()
        with Progress(Monitor(epoch, list(done), self.recent), count, show_batch) as shown:
            for step, given in enumerate(self.inputs(images, epoch, len(done)), len(done)):
                shown.take(self.step(given, epoch + step / count))
                if keeper is not None and keeper.is_due():
                    shown.catch_up()
                    self.check_weights()
                    keeper.keep(epoch, shown.monitor.rows)
        devices.check_steps(self.scaler, scale, count - len(done))
        self.check_weights()
        self.recent = shown.monitor.window
        return shown.monitor.means()

    def inputs(self, images: np.ndarray, epoch: int, first: int = 0) -> Iterator[StepInput]:
        """Yield what each step of an epoch needs, from a first one on, in time for it."""
        steps = self.source.epoch(epoch)
        batches = (steps[step] for step in range(first, len(steps)))
        kind = self.recipe.augmentation
        given = step_inputs(images, batches, kind, self.device, (self.seed, epoch), first)
        for step, one in enumerate(given, first):
            seed_torch([self.seed, epoch, step, MODEL, distributed.rank()])
            yield one

    def step(self, given: StepInput, done: float) -> AsyncCopy:
        """Take one optimizer step.

        Args:
            given: What to train on; each distinct image is embedded once.
            done: Epochs behind us, for the learning rates.

        Returns:
            The loss, the mean positive and the mean negative similarity, and the norm of the
            gradients before they are clipped (0 where float16 overflowed), (4,) float32.
        """
        is_waiting = optim.set_rates(self.optimizer, self.recipe, done)
        if is_waiting != self.model.has_frozen_backbone:
            self.model.freeze_backbone(is_waiting)
        similarities: list[torch.Tensor] = []

        def loss_of(filled: torch.Tensor) -> torch.Tensor:
            features = self.model.neck(filled[: given.n])
            similarities.append(mean_similarities(features, given.labels))
            return self.objective(features, given.labels, given.tuples)

        self.optimizer.zero_grad(set_to_none=True)
        loss = gradient_cache.accumulate_gradients(
            self.model,
            given.images,
            loss_of,
            self.micro_batch,
            partial(devices.autocast, self.device, self.dtype),
            given.part,
            given.n_filled,
            self.scaler.scale,
        )
        collectives.sum_gradients(self.model)
        collectives.share_gradients(self.objective)
        collectives.average_statistics(self.model)
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self._parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.recipe.clip:
            torch.nn.utils.clip_grads_with_norm_(self._parameters(), self.recipe.clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled():  # overflows are its business: that step was left out
            norm = norm.nan_to_num(0.0, 0.0)
        if self.average is not None:
            self.average.follow(self.model)
        figures = [loss.float().reshape(1), similarities[0], norm.float().reshape(1)]
        return AsyncCopy(torch.cat(figures))

    def check_weights(self) -> None:
        """Refuse weights that are not finite, which no checkpoint is to hold."""
        for module in {self.model, self.result, self.objective}:
            if not all(value.isfinite().all() for value in module.state_dict().values()):
                raise InputError(f"the weights are no longer finite; {monitor.REMEDY}")

    def _parameters(self) -> list[torch.Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def state(self) -> dict[str, Any]:
        """Return what it takes, beside ``result``'s weights, to go on as if nothing happened.

        Tensors and plain values; ``raw`` has the weights that are trained where ``result`` is
        their average.
        """
        raw = self.average and {
            "state_dict": self.model.state_dict(),
            "steps": self.average.steps,
        }
        return {
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "raw": raw,
            "scaler": self.scaler.state_dict(),
            "frozen_norms": self.model.has_frozen_norms,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``; ``model`` has the weights of ``result`` already."""
        before = state["optimizer"]
        # Options of now, and kernels of this device; ``lr`` follows from them with the next step.
        groups = [
            kept | {key: own[key] for key in own if key not in ("params", "lr")}
            for kept, own in zip(before["param_groups"], self.optimizer.param_groups, strict=True)
        ]
        self.optimizer.load_state_dict(before | {"param_groups": groups})
        self.objective.load_state_dict(state["objective"])
        if self.scaler.is_enabled() and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        if state["raw"] is not None:
            self.model.load_state_dict(state["raw"]["state_dict"])
            if self.average is not None:
                self.average.steps = state["raw"]["steps"]


def make(
    recipe: Recipe,
    data: TrainingData,
    model: EmbeddingModel,
    *,
    micro_batch: int,
    dtype: torch.dtype,
    seed: int,
    max_tuples: int = 0,
) -> Trainer:
    """Return the trainer of a recipe, for a model that is on its device."""
    objective = losses.make(recipe, model.config.dim, len(data.classes))
    source: Source
    if recipe.loss == "tuple":
        source = TupleBatches(data, recipe.batch_size, max_tuples, seed)
    else:
        grouping = (recipe.sampler, recipe.images_per_class)
        source = ClassBatches(data, recipe.batch_size, max_tuples, seed, *grouping)
    objective.to(model.mean.device)
    for module in (model, objective):
        collectives.share_weights(module)
    return Trainer(model, objective, source, recipe, micro_batch, dtype, seed)
