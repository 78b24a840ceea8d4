"""Effects of a surveillance camera."""

import torch

from retrieval.training import surveillance_effects


def stripes() -> torch.Tensor:
    pixels = torch.zeros(6, 3, 32, 32)
    pixels[..., ::2] = 0.8
    pixels[:, 0] += 0.2
    return pixels


def test_what_another_camera_does() -> None:
    pixels = stripes()
    dark = surveillance_effects.night(pixels)
    assert dark.mean() < 0.9 * pixels.mean()
    assert (dark <= pixels + 1e-6).all()
    grey = surveillance_effects.infrared(pixels)
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    coarse = surveillance_effects.few_pixels(pixels)
    assert coarse.shape == pixels.shape
    assert coarse.std(dim=-1).max() < 0.1 * pixels.std(dim=-1).max()
    flat = torch.full((2, 3, 13, 20), 0.5)
    squeezed = surveillance_effects.compression(flat)
    assert squeezed.shape == flat.shape
    assert (squeezed.amax((2, 3)) - squeezed.amin((2, 3))).max() < 1e-5  # a constant stays one
    assert (squeezed - flat).abs().max() < 0.05


def test_compression_rounds_in_an_orthonormal_basis() -> None:
    basis = surveillance_effects._cosines()
    torch.testing.assert_close(basis @ basis.T, torch.eye(8), atol=1e-6, rtol=0)
    noise = torch.rand(2, 3, 16, 16)
    found = surveillance_effects.compression(noise)
    assert 0.01 < (found - noise).pow(2).mean().sqrt() < 0.3
