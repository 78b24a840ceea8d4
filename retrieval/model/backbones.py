"""The networks under the embedding: torchvision's ResNets, and any of timm.

A backbone maps (n, 3, side, side) normalized images to (n, width, h, w) features, or to (n, width)
where it pools by itself, as vision transformers do.
"""

from collections import OrderedDict
from importlib import import_module
from typing import Any

import torch
import torchvision
from torch import nn

from retrieval.data.formats import InputError

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Channels = tuple[float, float, float]


def check(arch: str) -> str:
    """Return ``arch`` where there is such a backbone."""
    if arch.startswith("timm/"):
        name, known = arch.removeprefix("timm/"), timm()
        tag = name.partition(".")[2]
        try:
            is_known = known.is_model(name) and (not tag or known.get_pretrained_cfg(name))
        except RuntimeError:  # what it says of a tag that it does not know
            is_known = False
        if not is_known:
            raise InputError(
                f"timm has no model {name}; list them with: "
                'python -c "import timm; print(*timm.list_models(), *timm.list_pretrained())"'
            )
    elif arch not in RESNETS:
        raise InputError(f"--arch must be one of {', '.join(RESNETS)} or timm/NAME; got {arch}")
    return arch


def build(arch: str, side: int) -> nn.Module:
    """Return a backbone with random weights for images of ``side`` pixels."""
    if arch.startswith("timm/"):
        return TimmBackbone(arch, side)
    resnet = torchvision.models.get_model(arch, weights=None)
    # All but the average pooling and the classifier, under their own names.
    return nn.Sequential(OrderedDict(list(resnet.named_children())[:-2]))


def width(arch: str, side: int = 224) -> int:
    """Return the number of channels that the backbone ends with."""
    with torch.device("meta"):
        if arch.startswith("timm/"):
            return TimmBackbone(arch, side).width
        return torchvision.models.get_model(arch, weights=None).fc.in_features


def normalization(arch: str) -> tuple[Channels, Channels]:
    """Return mean and standard deviation of the channels that the backbone's weights expect."""
    if not arch.startswith("timm/"):
        return IMAGENET_MEAN, IMAGENET_STD
    known = timm().get_pretrained_cfg(arch.removeprefix("timm/"))
    if known is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(known.mean), tuple(known.std)


class TimmBackbone(nn.Module):
    """A model of timm without its classifier.

    Convolutional features are left to our pooling; tokens are pooled as the model does it.
    """

    def __init__(self, arch: str, side: int, pretrained: bool = False) -> None:
        super().__init__()
        name, create = arch.removeprefix("timm/"), timm().create_model
        try:  # transformers must know the size of the images
            self.net = create(name, pretrained=pretrained, num_classes=0, img_size=side)
        except TypeError:
            self.net = create(name, pretrained=pretrained, num_classes=0)
        self.width: int = self.net.num_features

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.net.forward_features(pixels)
        if features.ndim != 4:
            return self.net.forward_head(features, pre_logits=True)
        if features.shape[1] != self.width:  # (n, h, w, channels)
            features = features.permute(0, 3, 1, 2)
        return features


def timm() -> Any:
    """Return the library timm."""
    try:
        return import_module("timm")
    except ImportError as error:
        raise InputError("--arch=timm/... needs timm; install it with: pip install timm") from error
