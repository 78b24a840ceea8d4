"""Batch norm for the images at hand: its statistics, estimated anew.

A network trained on web photos normalizes its features by the statistics of web photos. With those
of the images to be encoded, a shift of the features that another camera brings is taken out layer
by layer (Li et al., Revisiting Batch Normalization For Practical Domain Adaptation,
arXiv:1603.04779). No label is used; the images are, all of them: where they are test queries, the
embeddings depend on the whole set of queries, and are to be reported as such.
"""

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from retrieval.data.formats import InputError
from retrieval.model.embedding import EmbeddingModel

ORDER_SEED = 7


@torch.inference_mode()
def adapt_batch_norm(
    model: EmbeddingModel, matrix: np.ndarray, batch_size: int, title: str
) -> EmbeddingModel:
    """Replace the running statistics of all batch norms by those of some images.

    One pass in float32. The statistics of all batches count alike (Wu and Johnson, Rethinking
    "Batch" in BatchNorm, arXiv:2105.07576), which takes batches of nearly one size; they are drawn
    at random with a fixed seed, as images in the order of their classes vary too little within a
    batch. Memory does not grow with the number of images.

    Args:
        model: On the device where to compute; changed in place and put into evaluation mode.
        matrix: (n_image, 3, side, side) uint8, may be a memory map.
        batch_size: Images at once, at least; fewer than twice as many at most.
        title: Of the progress bar.

    Returns:
        The same model.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not any(norm.track_running_stats for norm in norms):
        raise InputError("the model has no batch norm to adapt; leave --adapt_bn out")
    if min(batch_size, len(matrix)) < 2:
        raise InputError("--adapt_bn takes a --batch_size of at least 2, and two images")
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    order = np.random.default_rng(ORDER_SEED).permutation(len(matrix))
    batches = np.array_split(order, max(1, len(order) // batch_size))
    for rows in tqdm(batches, desc=f"adapt to {title}", unit="batch", disable=None, leave=False):
        model(torch.from_numpy(matrix[np.sort(rows)]).to(model.mean.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
