"""The trainer: model, optimizer, schedules and one training step."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from retrieval.compute import collectives, devices, distributed
from retrieval.data.formats import InputError
from retrieval.data.image_loader import AsyncCopy
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.encode import pooled_features
from retrieval.model.tta import at_scale
from retrieval.training import (
    closed_form,
    gradient_cache,
    losses,
    monitor,
    optim,
    samplers,
    step_loader,
)
from retrieval.training.config import TrainingConfig
from retrieval.training.dataset import TrainingData
from retrieval.training.optim import MovingAverage

MODEL = 4  # last entry of the seed of dropout and the like; samplers.py has the others


class Trainer:
    """The model, its loss and its optimizer, and the batches of each epoch.

    Everything random in a step follows from (seed, epoch, step): no state of a generator is kept,
    and a run resumes from ``state()`` and the number of the next step. Any number of processes
    takes each step together, with the same result (collectives.py).

    Attributes:
        model: The model that is trained, on its device.
        result: The model to validate and to save: the moving average of the weights with
            ``--ema``, else ``model`` itself; whitened after ``finish``.
        loss: The training loss with its own parameters, on the same device.
        dtype: Dtype of the convolutions.
    """

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingData,
        model: EmbeddingModel,
        dtype: torch.dtype,
    ) -> None:
        """Make the loss, the optimizer and the batches.

        Args:
            config: The options, none left out; ``micro_batch`` is above 0.
            data: The images and the split.
            model: On its device.
            dtype: Dtype of the convolutions.
        """
        self.config, self.data, self.model = config, data, model
        self.dtype = dtype
        self.device = model.mean.device
        self.loss = losses.make_loss(config, model.config.dim, len(data.classes)).to(self.device)
        for module in (model, self.loss):
            collectives.share_weights(module)
        self.sampler = samplers.make_sampler(config, data)
        self.optimizer = optim.make_optimizer(config, model, self.loss)
        self.scaler = devices.gradient_scaler(self.device, dtype)
        self._follow()

    def _follow(self) -> None:
        """Start the moving average at the model's weights, if there is one."""
        self.average = MovingAverage(self.model, self.config.ema) if self.config.ema else None
        self.result = self.average.model if self.average else self.model

    def start(self) -> None:
        """Start from the whitening of the pretrained features (``--whitening``)."""
        if not self.config.whitening:
            return
        closed_form.start_whitened(self.model, self.loss, *self._fitted(self.model))
        for module in (self.model, self.loss):
            collectives.share_weights(module)
        self._follow()

    def finish(self) -> None:
        """Add the whitening of the features to the result (``--whitening``): no step may follow."""
        if self.config.whitening:
            shown = at_scale(self.result, self.config.encode_scale)
            self.result = closed_form.whitened(self.result, *self._fitted(shown))

    def _fitted(self, model: EmbeddingModel) -> tuple[np.ndarray, np.ndarray]:
        """Return pooled features to fit a whitening to, and their class numbers."""
        rows = closed_form.fitted_rows(
            self.data.rows, self.config.whitening_images, self.config.seed
        )
        features = pooled_features(
            model, self.data.images, rows, self.config.batch_size, self.dtype
        )
        return features, self.data.numbers(rows)

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[step_loader.StepInput]:
        """Yield the input of each step of an epoch, on the device ahead of time."""
        self.model.train()
        self.loss.train()
        steps = self.sampler.epoch(epoch)
        batches = (steps[step] for step in range(first_step, len(steps)))
        seed = (self.config.seed, epoch)
        inputs = step_loader.step_inputs(
            self.data.images, batches, self.config.augmentation, self.device, seed, first_step
        )
        for step, batch in enumerate(inputs, first_step):
            step_loader.seed_torch([*seed, step, MODEL, distributed.rank()])
            yield batch

    def endless_batches(self) -> Iterator[step_loader.StepInput]:
        """Yield the input of one step after another, epoch after epoch."""
        for epoch in itertools.count():
            yield from self.batches(epoch)

    def step(self, batch: step_loader.StepInput, progress: float) -> AsyncCopy:
        """Take one optimizer step.

        Args:
            batch: Its images; each distinct image is embedded once.
            progress: Epochs done so far, for the learning rates: 2.5 is half of the third.

        Returns:
            (4,) float32, on its way from the device: the loss, the mean positive and the mean
            negative similarity, and the norm of the gradients before clipping (0 if float16
            overflowed).
        """
        self._set_rates(progress)
        similarities: list[torch.Tensor] = []

        def loss_of(filled: torch.Tensor) -> torch.Tensor:
            features = self.model.neck(filled[: batch.n])
            similarities.append(monitor.mean_similarities(features, batch.labels))
            return self.loss(features, batch.labels, batch.tuples)

        self.optimizer.zero_grad(set_to_none=True)
        loss = gradient_cache.accumulate_gradients(
            self.model,
            batch.images,
            loss_of,
            self.config.micro_batch,
            partial(devices.autocast, self.device, self.dtype),
            batch.part,
            batch.n_filled,
            self.scaler.scale,
        )
        collectives.sum_gradients(self.model)
        collectives.share_gradients(self.loss)
        collectives.average_statistics(self.model)
        norm = self._update_weights()
        return AsyncCopy(torch.cat([loss.float().reshape(1), similarities[0], norm]))

    def _set_rates(self, progress: float) -> None:
        is_waiting = optim.set_rates(self.optimizer, self.config, progress)
        if is_waiting != self.model.has_frozen_backbone:
            self.model.freeze_backbone(is_waiting)

    def _update_weights(self) -> torch.Tensor:
        """Clip the gradients and apply them; return their norm before, (1,) float32."""
        self.scaler.unscale_(self.optimizer)
        parameters = self.parameters()
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.config.clip:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.config.clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled():  # a step that overflowed was skipped: not an error
            norm = norm.nan_to_num(0.0, 0.0)
        if self.average is not None:
            self.average.follow(self.model)
        return norm.float().reshape(1)

    def parameters(self) -> list[torch.Tensor]:
        """Return everything that the optimizer trains."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def check_weights(self) -> None:
        """Refuse weights that are not finite, before they are saved.

        Raises:
            InputError: Names what to change.
        """
        for module in {self.model, self.result, self.loss}:
            if not all(value.isfinite().all() for value in module.state_dict().values()):
                raise InputError(f"the weights are no longer finite; {monitor.REMEDY}")

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs in addition to the weights of ``result``.

        Tensors and plain values; ``raw`` has the trained weights, and their average, if ``result``
        has others.
        """
        average, raw = self.average, None
        if self.result is not self.model:
            is_whitened = average is not None and self.result is not average.model
            raw = {
                "state_dict": self.model.state_dict(),
                "average": average.model.state_dict() if average and is_whitened else None,
                "steps": average.steps if average else 0,
            }
        return {
            "optimizer": self.optimizer.state_dict(),
            "loss": self.loss.state_dict(),
            "raw": raw,
            "scaler": self.scaler.state_dict(),
            "frozen_norms": self.model.has_frozen_norms,
        }

    def restore(self, state: dict[str, Any], name: str) -> None:
        """Take over a ``state``; ``model`` already has the weights of ``result``.

        Args:
            state: What ``state`` returned.
            name: Where it was read from, for messages.

        Raises:
            InputError: It is not the state of such a run.
        """
        try:
            self._restore(state)
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(
                f"{name} holds no state of such a training ({error}); continue from another epoch"
            ) from error

    def _restore(self, state: dict[str, Any]) -> None:
        before = state["optimizer"]
        # The options of this run and the kernels of this device; the next step sets ``lr``.
        groups = [
            kept | {key: own[key] for key in own if key not in ("params", "lr")}
            for kept, own in zip(before["param_groups"], self.optimizer.param_groups, strict=True)
        ]
        self.optimizer.load_state_dict(before | {"param_groups": groups})
        self.loss.load_state_dict(state["loss"])
        if self.scaler.is_enabled() and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        if state["raw"] is not None:
            self.model.load_state_dict(state["raw"]["state_dict"])
            if self.average is not None:
                self.average.steps = state["raw"]["steps"]
                if state["raw"].get("average"):
                    self.average.model.load_state_dict(state["raw"]["average"])
