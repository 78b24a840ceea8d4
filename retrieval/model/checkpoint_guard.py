"""Checks of a checkpoint, before torch reads it and afterwards.

torch reads an archive with a flipped bit without a word, allocates what a storage claims, and
allows more functions in the pickle than a checkpoint of ours needs.
"""

import pickle
import pickletools
import zipfile
from typing import Any, BinaryIO

from retrieval.data import schema
from retrieval.model.model_config import Neck, Pool

STORAGES = {
    "FloatStorage": 4,
    "DoubleStorage": 8,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}  # name -> bytes of a value
BUILDERS = (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"))
PROTOCOL = b"\x80\x02"
LARGEST_PICKLE = 64 << 20  # that of a ResNet-152 with its optimizer has 1 MB
LARGEST = 65_536  # --dim, and the side of an image in pixels

MODEL = {
    "arch": str,
    "dim": int,
    "side": int,
    "mean": tuple,
    "std": tuple,
    "pool": Pool,
    "neck": Neck,
}
FORM = {
    "epoch": int,
    "model": MODEL,
    "weights": str,
    "state_dict": dict[str, Any],
    "options": dict[str, Any],
    "metrics": dict[str, float],
    "domains": list[str],
    "split": dict[str, str],
    "held_out": list[int],
    "frozen_norms": bool,
    "optimizer?": {"state": dict, "param_groups": list[dict[str, Any]]},
    "loss?": dict[str, Any],
    "scaler?": dict[str, Any],
    "raw?": dict[str, Any] | None,
    "rows?": list[list[float]],
    "matrix?": str,
}


class _Claims(pickle.Unpickler):
    """Reads the pickle of an archive for the sizes of its storages; nothing is called."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        super().__init__(archive.open(name))
        folder = name.removesuffix("data.pkl")
        parts = {part.filename: part.file_size for part in archive.infolist()}
        self._sizes = {part.removeprefix(f"{folder}data/"): size for part, size in parts.items()}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _Inert
        if module == "torch" and name in STORAGES:
            return name
        if (module, name) in BUILDERS:
            return _Inert
        raise pickle.UnpicklingError(f"it holds {module}.{name}")

    def persistent_load(self, claim: Any) -> None:
        kind, storage, key, _, n_value = claim
        if kind != "storage" or self._sizes.get(key) != n_value * STORAGES[storage]:
            raise pickle.UnpicklingError(f"storage {key} is not as large as it claims")


class _Inert(dict[Any, Any]):
    """Stands for a tensor or an ordered dict while the sizes are read."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass


def check_archive(file: BinaryIO) -> None:
    """Refuse an archive that is damaged, compressed, or claims more than it holds.

    Raises:
        Exception: Whatever the damage leads to.
    """
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        compressed = [part.filename for part in parts if part.compress_type]
        if compressed or len({part.filename for part in parts}) != len(parts):
            raise zipfile.BadZipFile("a part is compressed, which torch never does, or twice there")
        if bad := archive.testzip():
            raise zipfile.BadZipFile(f"the checksum of {bad} is wrong")
        (name,) = (part.filename for part in parts if part.filename.endswith("/data.pkl"))
        if archive.getinfo(name).file_size > LARGEST_PICKLE:
            raise pickle.UnpicklingError("its pickle is too large")
        text = archive.read(name)
        if not text.startswith(PROTOCOL):
            raise pickle.UnpicklingError("its pickle is not of torch's protocol")
        # An index into the pickle's memory makes room for all indexes below it.
        for operation, argument, _ in pickletools.genops(text):
            if "PUT" in operation.name and int(argument or 0) > len(text):
                raise pickle.UnpicklingError("its pickle is damaged")
        _Claims(archive, name).load()


def check_content(content: dict[str, Any]) -> None:
    """Refuse members of a wrong type, and sizes that no model has.

    Raises:
        ValueError: Names the first member that is wrong.
    """
    import torch

    for key, form in FORM.items():
        if not schema.fits(content, {key: form}):
            raise ValueError(f"its {key.rstrip('?')} is not as train.py writes it")
    model = content["model"]
    channels = [value for name in ("mean", "std") for value in model[name]]
    is_sound = len(model) == len(MODEL) and len(channels) == 6
    is_sound &= all(isinstance(value, float) for value in channels)
    is_sound &= all(1 <= model[name] <= LARGEST for name in ("dim", "side"))
    if not is_sound or 0 in model["std"]:
        raise ValueError("its model is not as train.py writes it")
    if not all(isinstance(value, torch.Tensor) for value in content["state_dict"].values()):
        raise ValueError("its state_dict is not as train.py writes it")
