"""The networks under the embedding: torchvision's ResNets and every model of timm.

A backbone maps (n, 3, side, side) normalized images to (n, width, h, w) features. Vision
transformers pool by themselves: they map to (n, width).
"""

from collections import OrderedDict

import torch
import torchvision
from torch import nn

from retrieval.model.model_config import IMAGENET_MEAN, IMAGENET_STD, Channels, timm


def build(arch: str, side: int) -> nn.Module:
    """Return a backbone with random weights for images of ``side`` pixels."""
    if arch.startswith("timm/"):
        return TimmBackbone(arch, side)
    resnet = torchvision.models.get_model(arch, weights=None)
    # All but the average pooling and the classifier, under their own names.
    return nn.Sequential(OrderedDict(list(resnet.named_children())[:-2]))


def width(arch: str, side: int = 224) -> int:
    """Return the number of channels of the last feature map."""
    with torch.device("meta"):
        if arch.startswith("timm/"):
            return TimmBackbone(arch, side).width
        return torchvision.models.get_model(arch, weights=None).fc.in_features


def normalization(arch: str) -> tuple[Channels, Channels]:
    """Return the channel means and standard deviations that the pretrained weights expect."""
    if not arch.startswith("timm/"):
        return IMAGENET_MEAN, IMAGENET_STD
    known = timm().get_pretrained_cfg(arch.removeprefix("timm/"))
    if known is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(known.mean), tuple(known.std)


class TimmBackbone(nn.Module):
    """A timm model without its classifier.

    Our pooling takes convolutional feature maps; tokens are pooled the way the model does it.
    """

    def __init__(self, arch: str, side: int, pretrained: bool = False) -> None:
        super().__init__()
        name, create = arch.removeprefix("timm/"), timm().create_model
        try:  # transformers need the image size
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
