"""Self-training: guess the classes of images without labels, train on the surest, and again."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from tqdm import trange

from retrieval import augment, devices, gradient_cache, pseudo_labels
from retrieval.encode import embed
from retrieval.formats import InputError
from retrieval.model import EmbeddingModel
from retrieval.objectives import Objective


@dataclass(frozen=True)
class Images:
    """Images of two domains, numbered through: the sources first, then the targets.

    Attributes:
        web: (n_image, 3, side, side) uint8, may be a memory map.
        sources: (n_source,) int64 rows of it.
        source_labels: (n_source,) int64.
        cameras: (n_test, 3, side, side) uint8, may be a memory map.
        targets: (n_target,) int64 rows of it, whose classes are not known.
    """

    web: np.ndarray
    sources: np.ndarray
    source_labels: np.ndarray
    cameras: np.ndarray
    targets: np.ndarray

    @property
    def is_target(self) -> np.ndarray:
        """(n_source + n_target,) bool."""
        return np.arange(len(self.sources) + len(self.targets)) >= len(self.sources)

    def load(self, positions: np.ndarray) -> np.ndarray:
        """Read some images, (n, 3, side, side) uint8, in the order given."""
        n_source = len(self.sources)
        images = np.empty((len(positions), *self.web.shape[1:]), np.uint8)
        of_web = positions < n_source
        images[of_web] = self.web[self.sources[positions[of_web]]]
        images[~of_web] = self.cameras[self.targets[positions[~of_web] - n_source]]
        return images


@dataclass
class SelfTrainer:
    """The model, and how it is trained.

    Attributes:
        model: On its device.
        objective: The loss, on the same device.
        optimizer: Of the model's parameters.
        images: Of both domains.
        classes: Classes in a step.
        images_of_class: Images of each class in a step.
        augmentation: Of the images.
        batch_size: Images embedded, or kept with activations, at once.
        dtype: Of the convolutions.
    """

    model: EmbeddingModel
    objective: Objective
    optimizer: torch.optim.Optimizer
    images: Images
    classes: int
    images_of_class: int
    augmentation: augment.Augmentation
    batch_size: int
    dtype: torch.dtype
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.scaler = devices.gradient_scaler(self.model.mean.device, self.dtype)

    def guess(self, pseudo: pseudo_labels.Pseudo, confident: float, seed: int) -> np.ndarray:
        """Return the classes of the targets, as ``pseudo_labels.guess`` does."""
        images = self.images
        if pseudo == "none":
            return np.full(len(images.targets), pseudo_labels.UNKNOWN, np.int64)
        sources = embed(self.model, images.web, images.sources, self.batch_size, self.dtype, "web")
        targets = embed(
            self.model, images.cameras, images.targets, self.batch_size, self.dtype, "surveillance"
        )
        return pseudo_labels.guess(sources, images.source_labels, targets, pseudo, confident, seed)

    def train(self, guessed: np.ndarray, steps: int, rng: np.random.Generator) -> float:
        """Take some steps on both domains, and return the mean loss.

        Args:
            guessed: (n_target,) int64 classes of the targets, ``UNKNOWN`` where not sure.
            steps: Optimizer steps.
            rng: Of the batches.

        Raises:
            InputError: The loss or a gradient is no longer finite (in float16, in all steps).
        """
        labels = np.concatenate([self.images.source_labels, guessed])
        batches = pseudo_labels.class_batches(
            labels, self.images.is_target, self.classes, self.images_of_class, rng
        )
        self.model.train()
        scale = self.scaler.get_scale()
        losses = [self._step(batches, labels) for _ in trange(steps, disable=None, leave=False)]
        devices.check_steps(self.scaler, scale, steps)
        return float(np.mean(losses))

    def _step(self, batches: Iterator[np.ndarray], labels: np.ndarray) -> float:
        positions = next(batches)
        place = self.model.mean.device
        images = torch.from_numpy(self.images.load(positions)).to(place)
        known = torch.from_numpy(labels[positions]).to(place)
        self.optimizer.zero_grad(set_to_none=True)
        loss = gradient_cache.accumulate_gradients(
            self.model,
            augment.apply(self.augmentation, images),
            lambda features: self.objective(self.model.neck(features), known, None),
            self.batch_size,
            partial(devices.autocast, place, self.dtype),
            scale=self.scaler.scale,
        )
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not (loss.isfinite() and (norm.isfinite() or self.scaler.is_enabled())):
            raise InputError(
                f"the loss is {loss.item()} and the norm of the gradients {norm.item()}; try a "
                "smaller --lr"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item()
