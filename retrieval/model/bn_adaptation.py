"""Adaptive batch norm: statistics estimated from the images to encode.

A network trained on web photos normalizes its features by the statistics of web photos. The
statistics of the images to encode remove the shift that another camera brings, layer by layer (Li
et al., Revisiting Batch Normalization For Practical Domain Adaptation, arXiv:1603.04779). No label
is used, but all images are: embeddings of test queries then depend on the whole set of queries,
which is a transductive setting.
"""

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from retrieval.data.formats import InputError
from retrieval.data.images import Images
from retrieval.model.embedding import EmbeddingModel

ORDER_SEED = 7


@torch.inference_mode()
def adapt_batch_norm(
    model: EmbeddingModel, matrix: Images, batch_size: int, title: str
) -> EmbeddingModel:
    """Replace the running statistics of all batch norms by those of some images.

    One pass in float32. All batches count alike (Wu and Johnson, Rethinking "Batch" in BatchNorm,
    arXiv:2105.07576), so that their sizes differ by one at most. Batches are drawn at random with a
    fixed seed: images in class order vary too little within a batch. Memory is constant.

    Args:
        model: On its device; changed in place and switched to evaluation mode.
        matrix: (n_image, 3, side, side) uint8, may be a memory map.
        batch_size: Smallest batch; the largest is less than twice that.
        title: Title of the progress bar.

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
        norm.momentum = None  # cumulative mean over all batches
        norm.train()
    order = np.random.default_rng(ORDER_SEED).permutation(len(matrix))
    batches = np.array_split(order, max(1, len(order) // batch_size))
    for rows in tqdm(batches, desc=f"adapt to {title}", unit="batch", disable=None, leave=False):
        model(torch.from_numpy(matrix[np.sort(rows)]).to(model.mean.device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model.eval()
