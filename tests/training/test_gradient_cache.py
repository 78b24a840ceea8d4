"""A divided training step equals the whole one."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from retrieval.compute import devices
from retrieval.model.embedding import EmbeddingModel
from retrieval.training import gradient_cache, losses
from tests.model.test_embedding import SIDE, random_images, small_model


def gradients_of(model: EmbeddingModel, micro_batch: int) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad(set_to_none=True)
    rows = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 0], [2, 3, 1, 5]])
    loss = gradient_cache.accumulate_gradients(
        model,
        random_images(7, 64),
        partial(losses.tuple_softmax, tuples=rows, temperature=0.1),
        micro_batch,
        nullcontext,
    )
    return float(loss), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("micro_batch", [1, 3, 6])
def test_a_divided_step_has_the_gradients_of_the_whole(micro_batch: int) -> None:
    model = small_model(side=64).eval()  # at 32 px, one value is pooled and p has no effect
    loss, whole = gradients_of(model, 7)
    divided_loss, divided = gradients_of(model, micro_batch)
    assert divided_loss == pytest.approx(loss, rel=1e-5)
    assert divided.keys() == whole.keys() == dict(model.named_parameters()).keys()
    for name, gradient in whole.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(divided[name], gradient, rtol=1e-3, atol=1e-4 * scale)


def test_running_statistics_are_updated_once_for_each_chunk() -> None:
    model = small_model(side=64).train()
    reference = small_model(side=64).train()
    gradients_of(model, 3)
    for chunk in random_images(7, 64).split([3, 2, 2]):
        reference(chunk)
    for name, value in model.backbone.bn1.named_buffers():
        if name != "num_batches_tracked":
            torch.testing.assert_close(value, dict(reference.backbone.bn1.named_buffers())[name])


def test_the_measured_micro_batch_follows_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    sizes = []
    for memory in (1 << 30, 4 << 30):
        monkeypatch.setattr(devices, "total_memory", lambda _, memory=memory: memory)
        sizes.append(gradient_cache.micro_batch_that_fits(model, SIDE, nullcontext))
    assert sizes[1] == pytest.approx(4 * sizes[0], rel=0.05)
    larger = gradient_cache.micro_batch_that_fits(small_model(side=64), 64, nullcontext)
    assert larger == pytest.approx(sizes[1] / 4, rel=0.1)


def test_weights_in_another_precision_are_not_counted_as_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "total_memory", lambda _: 16 << 30)
    found = []
    for autocast in (nullcontext, partial(devices.autocast, torch.device("cpu"), torch.bfloat16)):
        found.append(gradient_cache.micro_batch_that_fits(small_model(), SIDE, autocast))
    assert found[1] > found[0]  # activations of half the bytes, though the weights are cast
