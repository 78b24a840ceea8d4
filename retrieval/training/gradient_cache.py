"""One training step over more images than fit into memory.

A loss that compares images needs the features of all of them at once, but not their activations:
embed everything without a graph, take the gradient of the loss with respect to the features, embed
again chunk by chunk, and pass each chunk its gradient (Gao et al., Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup, arXiv:2101.06983). The neck compares images too, and
belongs to the loss. With the backbone's batch norms frozen, the gradients equal those of the
undivided step.

Batch norms in training mode use the statistics of each chunk, the same in both passes. Only the
second pass updates the running statistics, once per chunk.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import numpy as np
import torch
from torch import nn

from retrieval.compute import collectives, devices, distributed
from retrieval.model.embedding import EmbeddingModel

log = logging.getLogger(__name__)

# Share of the memory for the activations of one chunk; the optimizer, the images and other programs
# need the rest.
ACTIVATION_SHARE = 0.35
MEASURED = (2, 4)  # batch sizes


def accumulate_gradients(
    model: EmbeddingModel,
    images: torch.Tensor,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    micro_batch: int,
    autocast: Callable[[], AbstractContextManager[object]],
    part: range | None = None,
    n: int = 0,
    scale: Callable[[torch.Tensor], torch.Tensor] = lambda loss: loss,
) -> torch.Tensor:
    """Add the gradients of ``loss_of(model.before_neck(images))``, and return the loss.

    Parameters of ``loss_of`` get their gradients too. With several processes, each adds the
    gradients of its own images (collectives.py).

    Args:
        model: In training or evaluation mode.
        images: (n, 3, side, side) uint8, on the model's device.
        loss_of: (n, dim) features of all images before the neck -> scalar loss.
        micro_batch: Largest number of images that keep their activations at once.
        autocast: Returns the context to run the model in.
        part: Which images of the step these are; None: all.
        n: Images of the whole step; 0: these.
        scale: Scales the loss before the backward pass, and thereby the gradients.
    """
    part, n = part or range(len(images)), n or len(images)
    # Nearly equal sizes: a single image left over would have no batch statistics.
    chunks = images.tensor_split(-(-len(images) // micro_batch)) if len(images) else ()
    is_divided = len(chunks) > 1
    if is_divided:
        with torch.no_grad(), frozen_statistics(model), autocast():
            own = torch.cat([model.before_neck(chunk) for chunk in chunks])
    elif chunks:
        with autocast():
            own = model.before_neck(images)
    else:
        own = images.new_zeros(0, model.config.dim, dtype=torch.float32)
    features = collectives.put_together(own.detach(), part, n).requires_grad_()
    loss = loss_of(features)
    scale(loss).backward()
    if features.grad is None:
        return loss.detach()
    gradient = features.grad[part.start : part.stop]
    if not is_divided:
        own.backward(gradient) if chunks else None
        return loss.detach()
    for chunk, of_chunk in zip(chunks, gradient.tensor_split(len(chunks)), strict=True):
        with autocast():
            again = model.before_neck(chunk)
        again.backward(of_chunk)
    return loss.detach()


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keep batch norms in training mode from updating their running statistics."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, is_tracked in zip(norms, tracked, strict=True):
            norm.track_running_stats = is_tracked


def micro_batch_that_fits(
    model: EmbeddingModel, side: int, autocast: Callable[[], AbstractContextManager[object]]
) -> int:
    """Return how many images fit into the memory of this machine with their activations.

    Measured from the bytes that autograd keeps for four images beyond those for two; what it keeps
    for any number of images, such as weights in another precision, does not count.

    Args:
        model: On its device.
        side: Image side in pixels.
        autocast: Returns the context that training will run in.
    """
    few, more = (_kept_bytes(model, n, side, autocast) for n in MEASURED)
    per_image = max(1.0, (more - few) / (MEASURED[1] - MEASURED[0]))
    device = model.mean.device
    return max(2, int(ACTIVATION_SHARE * devices.total_memory(device) / per_image))


def _kept_bytes(
    model: EmbeddingModel, n: int, side: int, autocast: Callable[[], AbstractContextManager[object]]
) -> int:
    """Return the bytes that autograd keeps for n images."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images = torch.zeros(n, 3, side, side, dtype=torch.uint8, device=model.mean.device)
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with frozen_statistics(model), hooks, autocast():
        features = model.before_neck(images)
    del features
    return sum(kept.values())


def agreed_micro_batch(model: EmbeddingModel, side: int, dtype: torch.dtype) -> int:
    """Return how many images fit into the memory of every process, and log it.

    Args:
        model: On its device.
        side: Image side in pixels.
        dtype: Dtype of the convolutions.
    """
    device = model.mean.device
    fits = micro_batch_that_fits(model, side, partial(devices.autocast, device, dtype))
    if device.type == "cpu":
        fits = max(2, fits // distributed.local_size())
    fits = int(min(distributed.gather(np.array(fits))))
    log.info("%d images with their activations fit into memory at once", fits)
    return fits
