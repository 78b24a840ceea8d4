"""Checkpoints that describe themselves: ``<save_path>/model.ep{n}``."""

import io
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.data import files
from retrieval.data.command_lines import command
from retrieval.data.formats import InputError
from retrieval.model.checkpoint_guard import check_archive, check_content
from retrieval.model.model_config import ModelConfig, Tta

if TYPE_CHECKING:
    from retrieval.model.embedding import EmbeddingModel

FORMAT = "car retrieval checkpoint"
VERSION = 4
BEST = "model.best"


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
    with files.whole(path) as part, _DiskFile(part, "w") as file:
        try:
            torch.save(content, file)
        except RuntimeError:  # torch's own, for whatever writing leads to
            if file.error is None:
                raise
            raise file.error from None
    return path


class _DiskFile(io.FileIO):
    """A file that remembers why it could not be written."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view, done = memoryview(data).cast("B"), 0
        try:
            while done < len(view):  # a nearly full disk takes a part
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.error = error
            raise
        return done


def check_exists(path: Path, data_dir: Path | None = None) -> None:
    """Refuse a path that is not a file, before anything heavy is imported.

    Args:
        path: The checkpoint.
        data_dir: The data directory, for the command in the message; None: unknown.
    """
    if path.is_file():
        return
    kind = "is a folder, not a checkpoint" if path.is_dir() else "is missing"
    folder = path if path.is_dir() else path.parent
    made = "train.py writes it"
    if data_dir is not None:
        made = f"made with: {command('python train.py', {'save_path': folder}, data_dir)}"
    raise InputError(f"{path} {kind}; --save_path must name a checkpoint such as model.ep0, {made}")


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        InputError: The file is missing, damaged, holds code, or was not written by train.py.
    """
    check_exists(path)
    import torch

    try:
        with path.open("rb") as file:  # once: what was checked is what is read
            check_archive(file)
            file.seek(0)
            content = torch.load(file, map_location="cpu", weights_only=True)
    # Whatever a damaged pickle leads to.
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise InputError(
            f"{path} is damaged, or holds more than tensors and plain values; train it again"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a checkpoint written by train.py")
    if content.get("version") != VERSION:
        raise InputError(
            f"{path} is of version {content.get('version')}; this program reads version {VERSION}: "
            "train it again"
        )
    try:
        check_content(content)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; train it again") from error
    return content


def recommended_views(content: dict[str, Any]) -> tuple[Tta, tuple[float, ...]]:
    """Return ``tta`` and ``scales`` that a checkpoint was trained to be encoded with."""
    options = content["options"]
    return options.get("encode_tta", "none"), (options.get("encode_scale", 1.0),)


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
    try:
        model = EmbeddingModel(config, is_loaded=True)
        shapes = {name: value.shape for name, value in content["state_dict"].items()}
        if shapes != {name: value.shape for name, value in model.state_dict().items()}:
            raise ValueError("names or shapes differ")  # torch takes (1,) for ()
        model.load_state_dict(content["state_dict"], strict=True)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(f"the weights in {path} do not fit its {config.arch}") from error
    return model
