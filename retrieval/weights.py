"""The weights that training starts from."""

import logging
import pickle
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision

from retrieval.formats import InputError
from retrieval.model import EmbeddingModel

log = logging.getLogger(__name__)

KINDS = ("auto", "imagenet", "none")


def initialize(model: EmbeddingModel, weights: str) -> str:
    """Load the trunk's first weights, and return where they came from.

    Args:
        model: Its trunk is overwritten, unless the weights are ``none``.
        weights: ``imagenet``: torchvision's, from its cache or downloaded; ``auto``: the same
            where they can be had, otherwise none, with a warning; ``none``: random; or the path
            of a state dict of torchvision's ResNet.
    """
    if weights == "none":
        return "random initialization"
    if weights not in KINDS:
        _load_trunk(model, _read(Path(weights).expanduser()), weights)
        return weights
    known = torchvision.models.get_model_weights(model.config.arch).DEFAULT
    try:
        state = known.get_state_dict(progress=True, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        if weights == "imagenet":
            raise InputError(
                f"the ImageNet weights of {model.config.arch} cannot be loaded ({error}); put "
                f"{Path(known.url).name} into {torch.hub.get_dir()}/checkpoints, or name a state "
                "dict: --weights=PATH"
            ) from error
        line = "!" * 90
        log.warning("%s", line)
        log.warning("The ImageNet weights of %s cannot be had (%s).", model.config.arch, error)
        log.warning("Training starts from RANDOM weights: expect much worse retrieval from few")
        log.warning("images. To use them, put %s", known.url)
        log.warning("into %s/checkpoints, or pass --weights=PATH.", torch.hub.get_dir())
        log.warning("%s", line)
        return "random initialization (no ImageNet weights at hand)"
    _load_trunk(model, state, str(known))
    return f"torchvision {known}"


def _read(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"--weights: {path} is missing; use auto, imagenet, none or a state dict")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"--weights: {path} is no state dict of tensors only") from error


def _load_trunk(model: EmbeddingModel, state: dict[str, torch.Tensor], name: str) -> None:
    trunk = {key: value for key, value in state.items() if not key.startswith("fc.")}
    try:
        model.trunk.load_state_dict(trunk, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(
            f"--weights: {name} does not fit the trunk of --arch={model.config.arch}"
        ) from error
