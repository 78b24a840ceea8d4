"""The networks under the embedding: torchvision's ResNets and every model of timm.

A backbone maps (n, 3, side, side) normalized images to (n, width, h, w) features. Vision
transformers pool by themselves: they map to (n, width).
"""

from collections import OrderedDict
from importlib import import_module

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


def stages(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of each stage of a backbone, from the image on; the stem is the first.

    A stage is what lies between two changes of the resolution in a convolutional network, and a
    block of a transformer.
    """
    if not isinstance(backbone, TimmBackbone):
        stem, layers = [], []
        for name, module in backbone.named_children():
            parameters = list(module.parameters())
            if name.startswith("layer"):
                layers.append(parameters)
            else:
                stem += parameters
        return [stem, *layers]
    models = import_module("timm.models")
    groups = models.group_parameters(backbone.net, backbone.net.group_matcher(coarse=True))
    own = dict(backbone.net.named_parameters())
    return [[own[name] for name in groups[number]] for number in sorted(groups)]


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
