"""Batch norm fitted to the images at hand."""

import numpy as np
import pytest
import torch

from retrieval.data.formats import InputError
from retrieval.model.bn_adaptation import adapt_batch_norm
from tests.model.test_embedding import random_images, small_model


def test_batch_norm_takes_the_mean_over_all_batches() -> None:
    model, images = small_model(), random_images(12)
    stem, norm = model.backbone.conv1, model.backbone.bn1
    adapt_batch_norm(model, images.numpy(), 5, "test")
    order = np.random.default_rng(7).permutation(12)
    batches = [images[torch.from_numpy(rows)] for rows in (order[:6], order[6:])]
    with torch.inference_mode():
        pixels = [(batch.float() / 255 - model.mean) / model.std for batch in batches]
        features = [stem(batch).transpose(0, 1).flatten(1) for batch in pixels]
    mean = torch.stack([f.mean(dim=1) for f in features]).mean(dim=0)
    variance = torch.stack([f.var(dim=1) for f in features]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, variance, rtol=1e-4, atol=1e-5)
    assert not norm.training
    assert norm.momentum == 0.1


@torch.inference_mode()
def test_nothing_is_left_of_the_statistics_of_training() -> None:
    images = random_images(8)
    first, second = small_model(), small_model()
    for module in second.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.uniform_(-1, 1)
    assert not torch.allclose(first.eval()(images), second.eval()(images), atol=1e-3)
    adapted = [adapt_batch_norm(m, images.numpy(), 4, "test")(images) for m in (first, second)]
    assert torch.equal(*adapted)


def test_adaptation_says_what_it_cannot_do() -> None:
    model = small_model()
    with pytest.raises(InputError, match="--batch_size of at least 2"):
        adapt_batch_norm(model, random_images(4).numpy(), 1, "test")
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.track_running_stats = False
    with pytest.raises(InputError, match="no batch norm to adapt"):
        adapt_batch_norm(model, random_images(4).numpy(), 2, "test")
