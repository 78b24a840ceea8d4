"""One training step over more images than fit into memory.

A loss that compares images with each other needs all their features at once, but not all their
activations: embed everything without a graph, take the gradient of the loss with respect to the
features, then embed chunk by chunk again and pass each chunk its gradient (Gao et al., Scaling
Deep Contrastive Learning Batch Size under Memory Limited Setup, arXiv:2101.06983). The neck, which
compares images as well, is a part of the loss. With the batch norms of the backbone in evaluation
mode, the gradients equal those of the undivided step.

With batch norms of the backbone in training mode, statistics are those of each chunk, the same in
both passes, and the running statistics are updated in the second pass only: once for each chunk.
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

# Share of the memory that the activations of one chunk may take; the rest is for the optimizer,
# the images and everybody else.
ACTIVATION_SHARE = 0.35
MEASURED = (2, 4)  # images


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

    Parameters that ``loss_of`` has of its own get theirs too. Of several processes, each adds the
    gradients that come from its own images (data_parallel.py).

    Args:
        model: In the mode wanted.
        images: (n, 3, side, side) uint8, on the model's device.
        loss_of: (n, dim) features of all images before the neck -> scalar loss.
        micro_batch: Images whose activations are kept at once, at most.
        autocast: Returns the context to run the model in.
        part: Which images of the step these are; None: all.
        n: Images of the step, where these are a part of them.
        scale: Multiplies the loss before the backward pass, and so the gradients.
    """
    part, n = part or range(len(images)), n or len(images)
    # Nearly equal: the statistics of one image that is left over would be none.
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
    """Let batch norm in training mode use the statistics of the batch without keeping them."""
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
    """Return how many images can be embedded at once, with their activations, on this machine.

    Measured: by how many bytes autograd keeps more of four images than of two, against the memory
    there is. What it keeps of any number, such as weights in another precision, does not count.

    Args:
        model: On its device.
        side: Of the images, in pixels.
        autocast: Returns the context that training will run in.
    """
    few, more = (_kept_bytes(model, n, side, autocast) for n in MEASURED)
    per_image = max(1.0, (more - few) / (MEASURED[1] - MEASURED[0]))
    device = model.mean.device
    return max(2, int(ACTIVATION_SHARE * devices.total_memory(device) / per_image))


def _kept_bytes(
    model: EmbeddingModel, n: int, side: int, autocast: Callable[[], AbstractContextManager[object]]
) -> int:
    """Return the bytes that autograd keeps of n images."""
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
    """Return how many images each of all processes can embed at once, and say so.

    Args:
        model: On its device.
        side: Of the images, in pixels.
        dtype: Of the convolutions.
    """
    device = model.mean.device
    fits = micro_batch_that_fits(model, side, partial(devices.autocast, device, dtype))
    if device.type == "cpu":
        fits = max(2, fits // distributed.local_size())
    fits = int(min(distributed.gather(np.array(fits))))
    log.info("%d images with their activations fit into memory at once", fits)
    return fits
