"""One training step in several processes, each with its part of the images.

Losses that compare images need the features of all of them. So every process gathers all features,
computes the loss of the whole step, and backpropagates through its own images. The sum of the
processes' gradients is that of one process with all images. gradient_cache.py does the same with
the chunks of one process.
"""

from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import nn

from retrieval.compute import distributed


def put_together(own: torch.Tensor, part: range, n: int) -> torch.Tensor:
    """Return the (n, dim) rows of all processes; this one has ``part``."""
    if distributed.size() == 1:
        return own
    rows = own.new_zeros(n, *own.shape[1:])
    rows[part.start : part.stop] = own
    with distributed.exchange():
        dist.all_reduce(rows)  # each row is zero in all processes but one
    return rows


def sum_gradients(module: nn.Module) -> None:
    """Add up the gradients of the parameters over all processes."""
    _in_one_piece(_gradients(module), dist.all_reduce)


def share_gradients(module: nn.Module) -> None:
    """Broadcast the gradients of the first process; they differ by rounding only."""
    _in_one_piece(_gradients(module), lambda flat: dist.broadcast(flat, 0))


def share_weights(module: nn.Module) -> None:
    """Broadcast the parameters and buffers of the first process."""
    tensors = [*module.parameters(), *module.buffers()]
    _in_one_piece([t.detach() for t in tensors], lambda flat: dist.broadcast(flat, 0))


def average_statistics(module: nn.Module) -> None:
    """Average the running statistics of batch norms over all processes."""

    def average(flat: torch.Tensor) -> None:
        dist.all_reduce(flat)
        flat /= distributed.size()

    norms = (m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    of_norms = [(n.running_mean, n.running_var) for n in norms if n.training]
    _in_one_piece([t for pair in of_norms for t in pair if t is not None], average)


def _gradients(module: nn.Module) -> list[torch.Tensor]:
    """Return the gradients of all trained parameters; a missing one becomes zero."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in trained if p.grad is not None]


@torch.no_grad()
def _in_one_piece(
    tensors: Iterable[torch.Tensor], exchange: Callable[[torch.Tensor], object]
) -> None:
    """Exchange tensors in place, all of one dtype in one message."""
    if distributed.size() == 1:
        return
    groups: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    for group in groups.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        with distributed.exchange():
            exchange(flat)
        for tensor, values in zip(group, flat.split([t.numel() for t in group]), strict=True):
            tensor.copy_(values.view(tensor.shape))
