"""Training: one step, one epoch, and all that changes with them."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from retrieval import augment, devices, gradient_cache, tuples
from retrieval.formats import InputError
from retrieval.model import EmbeddingModel
from retrieval.training_data import TrainingData

Negatives = Literal["tuple", "batch"]

STEP_MULTIPLE = 32  # the number of images of a step is a multiple of it


@dataclass
class Trainer:
    """The model and everything that changes with it while it is trained.

    Attributes:
        model: On its device.
        optimizer: Of all its parameters.
        scheduler: Stepped after each epoch.
        order: The random state that the tuples are shuffled with.
        augmentation: Of the images of a step.
        negatives: Which images an anchor is told from.
        temperature: Of the loss.
        micro_batch: Images whose activations are kept at once.
        dtype: Of the convolutions.
    """

    model: EmbeddingModel
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    order: torch.Generator
    augmentation: augment.Augmentation
    negatives: Negatives
    temperature: float
    micro_batch: int
    dtype: torch.dtype

    @property
    def device(self) -> torch.device:
        return self.model.mean.device

    def train_epoch(
        self, data: TrainingData, epoch: int, max_tuples: int, batch_size: int, show_batch: int
    ) -> float:
        """Go once through the tuples of this epoch, and return the mean loss.

        Args:
            data: The images and the tuples.
            epoch: Even epochs take the tuples of ``train.npy``, odd ones those of ``train2.npy``.
            max_tuples: Take only so many of them, at random; 0 takes all.
            batch_size: Tuples in a step.
            show_batch: Show the mean loss of so many steps.

        Raises:
            InputError: The loss is no longer finite.
        """
        self.model.train()
        of_epoch = data.tuples[epoch % 2]
        count = min(max_tuples or len(of_epoch), len(of_epoch))
        losses: list[float] = []
        with tqdm(total=count, desc=f"epoch {epoch}", unit="tuple", disable=None) as bar:
            for batch in tuples.batches(of_epoch, count, batch_size, self.order):
                losses.append(self.step(data, batch))
                if not np.isfinite(losses[-1]):
                    raise InputError(
                        f"the loss is {losses[-1]} at step {len(losses)} of epoch {epoch}; try a "
                        "smaller --lr, a larger --temperature, or --precision=float32"
                    )
                bar.update(len(batch))
                if len(losses) % show_batch == 0:
                    bar.set_postfix(loss=f"{np.mean(losses[-show_batch:]):.4f}")
        self.scheduler.step()
        return float(np.mean(losses))

    def step(self, data: TrainingData, batch: np.ndarray) -> float:
        """Take one optimizer step, embedding each distinct image once, and return the loss."""
        rows, places = np.unique(batch, return_inverse=True)
        # Repeats fill up the step: every new number of images would be compiled for anew.
        padded = np.resize(rows, -(-len(rows) // STEP_MULTIPLE) * STEP_MULTIPLE)
        images = torch.from_numpy(data.images[padded]).to(self.device)
        labels = torch.from_numpy(data.labels[rows]).to(self.device)
        local_tuples = torch.from_numpy(places.reshape(batch.shape)).to(self.device)

        def loss_of(embeddings: torch.Tensor) -> torch.Tensor:
            distinct = embeddings[: len(rows)]
            if self.negatives == "batch":
                return tuples.batch_loss(distinct, local_tuples, labels, self.temperature)
            return tuples.tuple_loss(distinct, local_tuples, self.temperature)

        self.optimizer.zero_grad(set_to_none=True)
        loss = gradient_cache.accumulate_gradients(
            self.model,
            augment.apply(self.augmentation, images),
            loss_of,
            self.micro_batch,
            partial(devices.autocast, self.device, self.dtype),
        )
        if torch.isfinite(loss):
            self.optimizer.step()
        return loss.item()

    def state(self) -> dict[str, Any]:
        """Return what it takes to go on as if nothing had happened: tensors and plain values."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": {
                "order": self.order.get_state(),
                "torch": torch.get_rng_state(),
                "cuda": cuda,
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a ``state``."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.order.set_state(state["random"]["order"])
        torch.set_rng_state(state["random"]["torch"])
        if self.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)
