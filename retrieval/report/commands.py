"""The commands behind a report, from the records."""

import logging
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from retrieval.data import provenance
from retrieval.data.formats import InputError

log = logging.getLogger(__name__)

FLAG_OF = {"is_valid": "isValid", "run_name": "run"}


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
    if "transform" in record:
        transform = command("python -m process_data.transform", record["transform"])
        return [*_commands_of(data_dir, record["from"]), transform]
    options = {"save_path": record["checkpoint"], "input": record["images"], "output": name}
    if record["images"] is None:
        photos = dict(record["preparation"])
        options |= {"image_info": photos.pop("index"), **photos}
    # A switch that is off has no flag: None.
    named = ("batch_size", "precision", "tta", "scales", "adapt_bn", "runtime")
    more = {key: record.get(key) or None for key in named}
    encode = command("python build_image_db.py", options | more)
    path = Path(record["checkpoint"])
    return [*_training_commands(path, record["checkpoint_sha256"]), encode]


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


def search_command(record: dict[str, Any]) -> str:
    """Return the command that an evaluation was made with, from its recorded options.

    >>> search_command({"stage": "baselines", "queries": "valid", "options": {"k": 5}})
    'python -m process_data.baselines --dpath=... --k=5 --isValid=1'
    """
    options = dict(record["options"]) | {"is_valid": record["queries"] == "valid"}
    return command(f"python -m process_data.{record['stage']}", options)


def command(start: str, options: dict[str, Any]) -> str:
    """Return a command line; options that are None were left out.

    >>> command("python x.py", {"rate": None, "flip": False, "sizes": (1, 2), "name": "my cars"})
    "python x.py --dpath=... --no-flip --sizes=1,2 '--name=my cars'"
    """
    words = [start, "--dpath=..."]
    for name, value in options.items():
        flag = FLAG_OF.get(name, name)
        if name == "is_valid":
            words.append(f"--{flag}={int(value)}")
        elif isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, (list, tuple)):
            words.append(shlex.quote(f"--{flag}={','.join(map(str, value))}"))
        elif value is not None:
            words.append(shlex.quote(f"--{flag}={value}"))
    return " ".join(words)
