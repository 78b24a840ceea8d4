"""The configuration of a model and the choices around it: plain values, light to import."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from retrieval.data.formats import InputError

Pool = Literal["gem", "avg", "max", "avgmax"]
Neck = Literal["none", "before", "after"]
Tta = Literal["none", "flip"]
Runtime = Literal["auto", "torch", "openvino", "onnxruntime"]
TTA_HELP = "flip: average with the mirror image; default: what the model was trained for"
SCALES_HELP = (
    "average over these multiples of the side, as in 1,0.7071; default: what the model was trained "
    "for"
)
Channels = tuple[float, float, float]

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelConfig:
    """The architecture and the preprocessing of an embedding model.

    Attributes:
        arch: One of ``RESNETS``, or ``timm/NAME``.
        dim: Length of an embedding.
        side: Side in pixels that images are resized to before the backbone.
        mean: Mean of the channels R, G, B, for values in [0, 1].
        std: Standard deviation of the channels.
        pool: How the backbone's feature map becomes one vector.
        neck: ``after``: the embedding is taken after a batch norm without scale and shift.
            Otherwise the model has none; with ``before``, the classifier has one.
    """

    arch: str
    dim: int
    side: int
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    pool: Pool = "gem"
    neck: Neck = "none"


def check_arch(arch: str) -> str:
    """Return ``arch`` if there is such a backbone; timm is imported only for ``timm/NAME``.

    Raises:
        InputError: There is none.
    """
    if not arch.startswith("timm/"):
        if arch not in RESNETS:
            raise InputError(f"--arch must be one of {', '.join(RESNETS)} or timm/NAME; got {arch}")
        return arch
    name, known = arch.removeprefix("timm/"), timm()
    tag = name.partition(".")[2]
    try:
        is_known = known.is_model(name) and (not tag or known.get_pretrained_cfg(name))
    except RuntimeError:  # raised for an unknown tag
        is_known = False
    if not is_known:
        raise InputError(
            f"timm has no model {name}; list them with: "
            'python -c "import timm; print(*timm.list_models(), *timm.list_pretrained())"'
        )
    return arch


def timm() -> Any:
    """Return the library timm, imported when it is needed.

    Raises:
        InputError: It is not installed.
    """
    try:
        return import_module("timm")
    except ImportError as error:
        raise InputError("--arch=timm/... needs timm; install it with: pip install timm") from error
