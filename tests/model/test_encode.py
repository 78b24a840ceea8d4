"""Embeddings of an image matrix, block by block."""

import numpy as np
import pytest
import torch

from retrieval.model.embedding import EmbeddingModel, put_on
from retrieval.model.encode import embed, embedding_blocks
from retrieval.model.model_config import ModelConfig
from retrieval.model.pieces import CPU_PIECE
from retrieval.model.tta import Views
from retrieval.threads import computing_with
from tests.conftest import ARCH, DEVICES

IMAGES = np.random.default_rng(0).integers(0, 256, (150, 3, 12, 12), dtype=np.uint8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("views", [Views(), Views("flip", (1.0, 0.5))])
def test_embeddings_are_those_of_the_model_in_order(device: str, views: Views) -> None:
    torch.manual_seed(0)
    model = put_on(EmbeddingModel(ModelConfig(ARCH, 8, 32)), torch.device(device))
    rows = np.array([5, 6, 7, 0, *range(20, 20 + 2 * CPU_PIECE)])
    blocks = list(embedding_blocks(model, IMAGES, rows, 9, torch.float32, "test", views))
    np.testing.assert_array_equal(np.concatenate([images for images, _ in blocks]), IMAGES[rows])
    assert [len(images) for images, _ in blocks] == [9, 9, 2]
    with torch.inference_mode():
        images = torch.from_numpy(IMAGES[rows]).to(device)
        expected = views.embed(model.eval(), images).cpu().numpy()
    found = np.concatenate([embeddings for _, embeddings in blocks])
    np.testing.assert_allclose(found, expected, atol=1e-5 if device == "cpu" else 5e-3)
    nothing = embed(model, IMAGES, rows[:0], 9, torch.float32)
    assert nothing.shape == (0, 8)


def test_embeddings_are_the_same_to_the_bit_however_many_threads_compute() -> None:
    torch.manual_seed(0)
    model = EmbeddingModel(ModelConfig(ARCH, 8, 32))
    rows = np.arange(5 * CPU_PIECE + 3)
    found = []
    for threads in (1, 2, 3):
        for batch_size in (64, CPU_PIECE):
            with computing_with(threads):
                found.append(embed(model, IMAGES, rows, batch_size, torch.float32))
                assert torch.get_num_threads() == threads
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
