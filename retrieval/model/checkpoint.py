"""Checkpoints that describe themselves: ``<save_path>/model.ep{n}``."""

import os
import pickle
import shutil
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from retrieval.data import files
from retrieval.data.formats import InputError
from retrieval.model.model_config import ModelConfig

if TYPE_CHECKING:
    from retrieval.model.embedding import EmbeddingModel

FORMAT = "car retrieval checkpoint"
VERSION = 4
DAMAGES = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, NotImplementedError),
    *(RuntimeError, EOFError, ValueError, KeyError, OverflowError),
)
BEST = "model.best"
KEYS = {
    *("format", "version", "epoch", "model", "weights", "state_dict", "options", "metrics"),
    *("domains", "split", "held_out"),  # what it was trained on
}


def path_of(save_path: Path, epoch: int) -> Path:
    """Return the path of the checkpoint of an epoch, counted from 0."""
    return save_path / f"model.ep{epoch}"


def save(path: Path, model: "EmbeddingModel", *, epoch: int, weights: str, **more: Any) -> Path:
    """Write a checkpoint, completely or not at all.

    Args:
        path: The file to write.
        model: The model to encode with: its configuration and weights are saved. With ``--ema``,
            that is the moving average of the trained weights.
        epoch: The epoch that ends here, from 0.
        weights: Where the first weights came from.
        more: ``options``, ``metrics`` and the state of a run to resume; plain values and tensors.
    """
    import torch

    content = {
        "format": FORMAT,
        "version": VERSION,
        "epoch": epoch,
        "model": asdict(model.config),
        "weights": weights,
        "state_dict": model.state_dict(),
        **more,
    }
    # Through an open file: torch would write the name of the temporary file into the archive.
    with files.whole(path) as part, part.open("wb") as file:
        torch.save(content, file)
    return path


def check_exists(path: Path) -> None:
    """Refuse a path that is not a file, before anything heavy is imported."""
    if not path.is_file():
        kind = "is a folder, not a checkpoint" if path.is_dir() else "is missing"
        raise InputError(
            f"{path} {kind}; --save_path must name a checkpoint such as model.ep0, "
            "made with: python train.py --dpath=... --save_path=..."
        )


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        InputError: The file is missing, damaged, holds code, or was not written by train.py.
    """
    check_exists(path)
    import torch

    try:
        with path.open("rb") as file:  # once: what was checked is what is read
            _check_archive(file)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except DAMAGES as error:
        raise InputError(
            f"{path} is damaged, or holds more than tensors and plain values; train it again"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a checkpoint written by train.py")
    if content.get("version") != VERSION or not set(content) >= KEYS:
        raise InputError(
            f"{path} is of version {content.get('version')}; this program reads version {VERSION}: "
            "train it again"
        )
    return content


def _check_archive(file: BinaryIO) -> None:
    """Refuse an archive with a flipped bit, which torch reads without a word, or with a bomb.

    Raises:
        zipfile.BadZipFile: A checksum is wrong, or a part is compressed, which torch never does.
    """
    with zipfile.ZipFile(file) as archive:
        bad = [part.filename for part in archive.infolist() if part.compress_type]
        bad += [archive.testzip() or ""]
    if any(bad):
        raise zipfile.BadZipFile(bad[0])


def keep_best(path: Path) -> Path:
    """Link ``model.best`` beside ``path`` to the same file, and return it.

    A hard link, or a copy on file systems without: the epoch may be deleted.
    """
    best = path.with_name(BEST)
    with files.whole(best) as part:
        # A killed process may have left a link to another epoch; a copy would overwrite that.
        part.unlink(missing_ok=True)
        try:
            os.link(path, part)
        except OSError:
            shutil.copyfile(path, part)
    return best


def build_model(content: dict[str, Any], path: Path, arch: str | None = None) -> "EmbeddingModel":
    """Build the model of a checkpoint, with its weights.

    Args:
        content: What ``load`` returned.
        path: Its file, for messages.
        arch: The architecture that the caller expects; None takes the checkpoint's.
    """
    from retrieval.model.embedding import EmbeddingModel

    config = ModelConfig(**content["model"])
    if arch not in (None, config.arch):
        raise InputError(
            f"{path} holds a {config.arch}, not --arch={arch}; use --arch={config.arch}"
        )
    model = EmbeddingModel(config, is_loaded=True)
    try:
        model.load_state_dict(content["state_dict"], strict=True)
    except RuntimeError as error:
        raise InputError(f"the weights in {path} do not fit its {config.arch}") from error
    return model
