"""The commands behind a report, from the records."""

import logging
from collections.abc import Iterable
from pathlib import Path

from retrieval.data import provenance
from retrieval.data.command_lines import command, remake_command
from retrieval.data.formats import InputError

log = logging.getLogger(__name__)


def model_commands(data_dir: Path, embeddings: Iterable[str]) -> list[str]:
    """Return the known commands that made some embeddings, from the training on.

    The training's options come from the checkpoint, which must be unchanged in its old place.

    Args:
        data_dir: The data directory.
        embeddings: Names of files; files without a record are left out.
    """
    lines = (line for name in embeddings for line in _commands_of(data_dir, name))
    return list(dict.fromkeys(lines))


def _commands_of(data_dir: Path, name: str) -> list[str]:
    record = provenance.load_record(data_dir, name)
    if record is None:
        return []
    made = [made_by] if (made_by := remake_command(None, name, record)) else []
    if "transform" in record:
        return [*_commands_of(data_dir, record["from"]), *made]
    path = Path(record["checkpoint"])
    return [*_training_commands(path, record["checkpoint_sha256"]), *made]


def _training_commands(path: Path, sha256: str) -> list[str]:
    if not path.is_file():
        return []
    if provenance.sha256(path) != sha256:
        log.warning("%s is not the checkpoint that encoded the images: no command of it", path)
        return []
    from retrieval.model import checkpoint

    try:
        content = checkpoint.load(path)
    except InputError:  # written by another version
        return []
    return [command("python train.py", {"save_path": path.parent, **content["options"]})]
