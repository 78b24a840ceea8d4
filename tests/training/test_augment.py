"""Random changes of training images."""

from typing import Any

import numpy as np
import pytest
import torch

from retrieval.data.formats import InputError
from retrieval.training import augment
from retrieval.training.augment import AUGMENTATIONS, Augment, apply
from retrieval.training.config import AugmentationName
from tests.model.test_embedding import SIDE, random_images


@pytest.mark.parametrize("kind", ["none", "camera", "light", "strong"])
def test_augmentation_keeps_the_form(kind: AugmentationName) -> None:
    images = random_images(4)
    torch.manual_seed(3)
    changed = augment.apply(kind, images)
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    assert torch.equal(changed, images) == (kind == "none")
    torch.manual_seed(3)
    assert torch.equal(augment.apply(kind, images), changed)


def test_augmentation_of_nothing_is_the_image_or_its_mirror_image() -> None:
    images = random_images(1).expand(20, -1, -1, -1)
    changed = augment.Augment(smallest_crop=1, stretch=1, jitter=0)(images)
    is_same = (changed == images).flatten(1).all(1)
    is_mirrored = (changed == images.flip(3)).flatten(1).all(1)
    assert (is_same ^ is_mirrored).all()
    assert is_same.any()
    assert is_mirrored.any()


def test_augmentation_never_looks_outside_and_can_take_the_color() -> None:
    images = torch.full((8, 3, SIDE, SIDE), 90, dtype=torch.uint8)
    images[:, 0] = 200
    crops = augment.Augment(smallest_crop=0.3, jitter=0)(images)
    torch.testing.assert_close(crops, images, atol=1, rtol=0)  # no border comes into view
    grey = augment.Augment(jitter=0, grey=1)(images)
    assert (grey.amax(1) - grey.amin(1)).max() <= 1


def test_a_tilt_shows_no_border_and_hue_keeps_grey() -> None:
    images = torch.full((8, 3, 32, 32), 90, dtype=torch.uint8)
    tilted = Augment(0.5, 1.2, tilt=0.3, jitter=0, hue=0.5)(images)
    torch.testing.assert_close(tilted, images, atol=1, rtol=0)
    marked = (torch.arange(32.0) * 8).expand(8, 3, 32, 32).to(torch.uint8)
    assert not torch.equal(Augment(1, 1, False, tilt=0.3, jitter=0)(marked), marked)
    third = torch.tensor([[[[0.9]], [[0.3]], [[0.1]]]])
    turned = torch.cat([Augment(hue=0.3)._turn_hue(third) for _ in range(50)])
    torch.testing.assert_close(turned.mean(1), torch.full((50, 1, 1), 1.3 / 3))


@pytest.mark.parametrize("kind", [kind for kind, change in AUGMENTATIONS.items() if change])
def test_the_smallest_images_that_are_augmented(kind: Any) -> None:
    for side in (4, 5):
        assert apply(kind, torch.zeros(9, 3, side, side, dtype=torch.uint8)).shape[-1] == side
    with pytest.raises(InputError, match=f"--augmentation={kind} takes images of at least 4 px"):
        apply(kind, torch.zeros(2, 3, 3, 3, dtype=torch.uint8))


@pytest.mark.parametrize("kind", ["crop", "surveillance"])
def test_new_augmentations_keep_the_form(kind: str) -> None:
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (5, 3, 30, 30), dtype=np.uint8)
    )
    changed = AUGMENTATIONS[kind](images)  # type: ignore[index, misc]
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, images)
