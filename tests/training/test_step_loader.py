"""What a step gets follows from its number, not from how many processes share it."""

import numpy as np
import pytest
import torch

from retrieval.compute import distributed
from retrieval.training.config import AugmentationName
from retrieval.training.samplers import Batch
from retrieval.training.step_loader import StepInput, step_inputs
from tests.conftest import DEVICES

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (150, 3, 12, 12), dtype=np.uint8)


def batches() -> list[Batch]:
    """Return steps of 100 images filled up to 112, of 5 filled up to 16, and of 64."""
    rng = np.random.default_rng(1)
    chosen = [np.sort(rng.choice(len(IMAGES), n, replace=False)) for n in (100, 5, 64)]
    tuples = np.array([[0, 1, 2]])
    filled = (112, 16, 0)
    return [Batch(r, r % 7, tuples, len(r), n) for r, n in zip(chosen, filled, strict=True)]


def inputs(device: str = "cpu", kind: AugmentationName = "light") -> list[StepInput]:
    return list(step_inputs(IMAGES, batches(), kind, torch.device(device), (7, 0)))


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_parts_of_several_processes_are_the_whole(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = inputs()
    parts = []
    monkeypatch.setattr(distributed, "size", lambda: size)
    for rank in range(size):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(inputs())
    for step, whole in enumerate(expected):
        together = torch.cat([part[step].images for part in parts])
        assert torch.equal(together, whole.images)
        counts = [len(part[step].images) for part in parts]
        assert max(counts) - min(counts) <= 1
        assert [part[step].n_filled for part in parts] == [whole.n_filled] * size


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_is_filled_up_with_its_own_images(device: str) -> None:
    for given, batch in zip(inputs(device, "none"), batches(), strict=True):
        assert given.images.device.type == device
        assert given.n == len(batch.rows)
        assert given.n_filled == len(given.images) == (batch.n_filled or given.n)
        found = given.images.cpu().numpy()
        np.testing.assert_array_equal(found[: given.n], IMAGES[batch.rows])
        assert set(map(bytes, found)) == set(map(bytes, IMAGES[batch.rows]))
        np.testing.assert_array_equal(given.labels.cpu().numpy(), batch.labels)
        assert given.tuples is not None
        np.testing.assert_array_equal(given.tuples.cpu().numpy(), batch.tuples)


def test_repeats_come_from_all_over_the_step() -> None:
    """Rows are sorted, so repeats of the first ones would weigh the first classes."""
    rows = np.arange(40)
    (step,) = step_inputs(
        IMAGES, [Batch(rows, rows % 7, None, 40, 48)], "none", torch.device("cpu"), (7, 0)
    )
    repeats = [
        next(i for i in rows if np.array_equal(IMAGES[i], image))
        for image in step.images[40:].numpy()
    ]
    assert repeats == [0, 6, 11, 17, 22, 28, 33, 39]


@pytest.mark.parametrize("device", DEVICES)
def test_an_epoch_is_taken_up_at_any_step(device: str) -> None:
    whole = inputs(device)
    place = torch.device(device)
    rest = list(step_inputs(IMAGES, batches()[1:], "light", place, (7, 0), first_step=1))
    for one, other in zip(whole[1:], rest, strict=True):
        assert torch.equal(one.images, other.images)
    assert not torch.equal(whole[2].images, inputs(device, "none")[2].images)
