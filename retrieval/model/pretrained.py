"""The pretrained weights that training starts from."""

import logging
import pickle
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision

from retrieval.data.formats import InputError
from retrieval.model import backbones
from retrieval.model.embedding import EmbeddingModel

log = logging.getLogger(__name__)

KINDS = ("auto", "imagenet", "none")


RANDOM = "random initialization"


def initialize(model: EmbeddingModel, weights: str) -> str:
    """Load the first weights of the backbone, and return where they came from.

    Args:
        model: Its backbone is overwritten unless ``weights`` is ``none``.
        weights: ``imagenet``: those that torchvision or timm recommends (for timm not always of
            ImageNet), from the cache or downloaded; ``auto``: the same if they can be loaded,
            else random with a warning; ``none``: random; or the path of a state dict of the whole
            network.
    """
    if weights == "none":
        return RANDOM
    if weights not in KINDS:
        _load_backbone(model, _read(Path(weights).expanduser()), weights)
        return weights
    arch = model.config.arch
    try:
        name, state = _published(arch, model.config.side)
    except (URLError, OSError, RuntimeError) as error:
        if weights == "imagenet":
            raise InputError(
                f"the ImageNet weights of {arch} cannot be loaded ({error}); {_remedy(arch)}, or "
                "name a state dict: --weights=PATH"
            ) from error
        line = "!" * 90
        log.warning("%s", line)
        log.warning("The ImageNet weights of %s cannot be had (%s).", arch, error)
        log.warning("Training starts from RANDOM weights: expect much worse retrieval from few")
        log.warning("images. To use them: %s, or pass --weights=PATH.", _remedy(arch))
        log.warning("%s", line)
        return f"{RANDOM} (no ImageNet weights at hand)"
    _load_backbone(model, state, name)
    return name


def _published(arch: str, side: int) -> tuple[str, dict[str, torch.Tensor]]:
    """Return the name and the state dict of the recommended weights."""
    if arch.startswith("timm/"):
        return arch, backbones.TimmBackbone(arch, side, pretrained=True).net.state_dict()
    known = torchvision.models.get_model_weights(arch).DEFAULT
    return f"torchvision {known}", known.get_state_dict(progress=True, check_hash=True)


def _remedy(arch: str) -> str:
    if arch.startswith("timm/"):
        return "let timm download them once"
    url = torchvision.models.get_model_weights(arch).DEFAULT.url
    return f"put {url} into {torch.hub.get_dir()}/checkpoints"


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"--weights: {path} is missing; use auto, imagenet, none or a state dict")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"--weights: {path} is no state dict of tensors only") from error


def _load_backbone(model: EmbeddingModel, state: dict[str, torch.Tensor], name: str) -> None:
    backbone, heads = model.backbone, ["fc."]
    if isinstance(backbone, backbones.TimmBackbone):
        backbone, heads = backbone.net, ["head.", "fc.", "classifier."]
        own = backbone.state_dict()
        state = {k: v for k, v in state.items() if k in own or not k.startswith(tuple(heads))}
    else:
        state = {key: value for key, value in state.items() if not key.startswith(tuple(heads))}
    try:
        backbone.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(
            f"--weights: {name} does not fit the backbone of --arch={model.config.arch}"
        ) from error
