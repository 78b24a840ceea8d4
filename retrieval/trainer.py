"""Training: one step, one epoch, and all that changes with them."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from retrieval import augment, devices, gradient_cache, objectives, optimization
from retrieval.batches import Batch, ClassBatches, Source, TupleBatches
from retrieval.model import EmbeddingModel
from retrieval.monitor import Monitor
from retrieval.objectives import Objective
from retrieval.optimization import MovingAverage
from retrieval.training_data import TrainingData
from retrieval.training_options import Recipe

STEP_MULTIPLE = 32  # the number of images of a step is a multiple of it
AUGMENTATION = 3  # the last entry of a seed, as in batches.py


@dataclass
class Trainer:
    """The model and everything that changes with it while it is trained.

    What is random in a step follows from (seed, epoch, step), so that no state of a generator has
    to be kept: to continue, it takes ``state()`` and the number of the next step.

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

    def __post_init__(self) -> None:
        self.optimizer = optimization.make_optimizer(self.recipe, self.model, self.objective)
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
        self, images: np.ndarray, epoch: int, show_batch: int, first_step: int = 0
    ) -> dict[str, float]:
        """Go once through an epoch, and return its mean loss and similarities.

        Args:
            images: (n_image, 3, side, side) uint8, may be a memory map.
            epoch: Its number, from 0.
            show_batch: Show the means of so many steps.
            first_step: Continue from this step.

        Raises:
            InputError: The loss is no longer finite.
        """
        steps = self.source.epoch(epoch)
        monitor = Monitor(epoch, first_step)
        self.model.train()
        self.objective.train()
        with tqdm(total=len(steps), desc=f"epoch {epoch}", unit="step", disable=None) as bar:
            bar.update(first_step)
            for step in range(first_step, len(steps)):
                self.seed_step(epoch, step)
                loss, features, labels = self.step(images, steps[step], epoch + step / len(steps))
                monitor.note(loss, features, labels)
                bar.update()
                if len(monitor.rows) % show_batch == 0:
                    means = monitor.means(show_batch)
                    bar.set_postfix({name: f"{value:.4f}" for name, value in means.items()})
        return monitor.means()

    def seed_step(self, epoch: int, step: int) -> None:
        """Make what is random in a step follow from its number."""
        key = np.random.SeedSequence([self.seed, epoch, step, AUGMENTATION])
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))

    def step(
        self, images: np.ndarray, batch: Batch, done: float
    ) -> tuple[float, torch.Tensor, torch.Tensor]:
        """Take one optimizer step, unless the loss is not finite.

        Args:
            images: The image matrix.
            batch: What to train on; each distinct image is embedded once.
            done: Epochs behind us, for the learning rates.

        Returns:
            The loss, the (n, dim) features of the batch's rows, and their (n,) labels.
        """
        optimization.set_rates(self.optimizer, self.recipe, done)
        n = len(batch.rows)
        # Repeats fill up the step: every new number of images would be compiled for anew.
        padded = np.resize(batch.rows, -(-n // STEP_MULTIPLE) * STEP_MULTIPLE)
        pixels = torch.from_numpy(images[padded]).to(self.device)
        labels = torch.from_numpy(batch.labels).to(self.device)
        places = None if batch.tuples is None else torch.from_numpy(batch.tuples).to(self.device)
        seen: list[torch.Tensor] = []

        def loss_of(features: torch.Tensor) -> torch.Tensor:
            seen.append(features[:n].detach())
            return self.objective(features[:n], labels, places)

        self.optimizer.zero_grad(set_to_none=True)
        loss = gradient_cache.accumulate_gradients(
            self.model,
            augment.apply(self.recipe.augmentation, pixels),
            loss_of,
            self.micro_batch,
            partial(devices.autocast, self.device, self.dtype),
        )
        if torch.isfinite(loss):
            if self.recipe.clip:
                torch.nn.utils.clip_grad_norm_(self._parameters(), self.recipe.clip)
            self.optimizer.step()
            if self.average is not None:
                self.average.follow(self.model)
        return loss.item(), seen[0], labels

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
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``; ``model`` has the weights of ``result`` already."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        if self.average is not None and state["raw"] is not None:
            self.average.steps = state["raw"]["steps"]
            self.model.load_state_dict(state["raw"]["state_dict"])


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
    objective = objectives.make(recipe, model.config.dim, len(data.classes))
    source: Source
    if recipe.loss == "tuple":
        source = TupleBatches(data, recipe.batch_size, max_tuples, seed)
    else:
        grouping = (recipe.sampler, recipe.images_per_class)
        source = ClassBatches(data, recipe.batch_size, max_tuples, seed, *grouping)
    objective.to(model.mean.device)
    return Trainer(model, objective, source, recipe, micro_batch, dtype, seed)
