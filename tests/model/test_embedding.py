"""The embedding model."""

import pytest
import torch

from retrieval.model.embedding import EmbeddingModel, GeM
from retrieval.model.model_config import ModelConfig

SIDE = 32


def small_model(dim: int = 8, side: int = SIDE) -> EmbeddingModel:
    torch.manual_seed(0)
    return EmbeddingModel(ModelConfig("resnet18", dim, side))


def random_images(n: int, side: int = SIDE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=generator)


def test_embeddings_are_unit_vectors_of_float32() -> None:
    embeddings = small_model()(random_images(3))
    assert embeddings.shape == (3, 8)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_images_are_normalized_as_the_weights_expect() -> None:
    model = small_model().eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.full((1, 3, SIDE, SIDE), 255, dtype=torch.uint8))
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)


def test_images_of_another_size_are_scaled() -> None:
    model = small_model(side=48)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    model(random_images(2))
    assert seen == [(2, 3, 48, 48)]


def test_gem_is_the_generalized_mean() -> None:
    features = torch.rand(2, 3, 4, 5)
    pool = GeM(p=3.0)
    expected = (features**3).mean(dim=(2, 3)) ** (1 / 3)
    torch.testing.assert_close(pool(features), expected)
    torch.testing.assert_close(GeM(p=1.0)(features), features.mean(dim=(2, 3)))
    torch.testing.assert_close(GeM(p=200.0)(features), features.amax(dim=(2, 3)), rtol=0.05, atol=0)
    pool(-features.bfloat16()).sum().backward()  # clamped: a power of a negative would be nan
    assert pool.p.grad is not None
    assert torch.isfinite(pool.p.grad)
    assert pool(features.bfloat16()).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_embeds_as_the_cpu_does() -> None:
    model = small_model().eval()
    images = random_images(5)
    expected = model(images)
    found = model.cuda()(images.cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)
