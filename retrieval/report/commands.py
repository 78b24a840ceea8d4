"""The commands that made what a report shows, from what was recorded."""

import shlex
from pathlib import Path
from typing import Any

from retrieval import checkpoint, layout, provenance
from retrieval.formats import InputError

STAGE_OF = {"pixels": "baselines", "histogram": "baselines"}  # others are called as their search
FLAG_OF = {"is_valid": "isValid"}


def model_commands(data_dir: Path) -> list[str]:
    """Return the commands that trained the model and encoded the images, as far as known.

    The training's options are those in the checkpoint, which must be where it was, unchanged.
    """
    lines: list[str] = []
    for output in (layout.DATABASE.name, layout.TEST_DATABASE.name):
        record = provenance.load(data_dir, output)
        if record is None:
            continue
        trained = _train_command(record)
        options = {
            "save_path": record["checkpoint"],
            "input": record["images"],
            "output": output,
            "precision": record.get("precision"),
        }
        lines += [*trained, command("python build_image_db.py", options)]
    return list(dict.fromkeys(lines))


def _train_command(record: dict[str, Any]) -> list[str]:
    path = Path(record["checkpoint"])
    if not path.is_file() or provenance.sha256(path) != record["checkpoint_sha256"]:
        return []
    try:
        options = checkpoint.load(path)["options"]
    except InputError:  # written by another version
        return []
    return [command("python train.py", {"save_path": path.parent, **options})]


def search_command(record: dict[str, Any]) -> str:
    """Return the command that an evaluation was made with, from its recorded options.

    >>> search_command({"search": "pixels", "queries": "valid", "options": {"k": 5}})
    'python -m process_data.baselines --dpath=... --k=5 --isValid=1'
    """
    options = dict(record["options"]) | {"is_valid": record["queries"] == "valid"}
    stage = STAGE_OF.get(record["search"], record["search"])
    return command(f"python -m process_data.{stage}", options)


def command(start: str, options: dict[str, Any]) -> str:
    """Return a command line; options that are None were left out.

    >>> command("python x.py", {"k": 3, "rate": None, "flip": False, "name": "my cars"})
    "python x.py --dpath=... --k=3 --no-flip '--name=my cars'"
    """
    words = [start, "--dpath=..."]
    for name, value in options.items():
        flag = FLAG_OF.get(name, name)
        if name in FLAG_OF:
            words.append(f"--{flag}={int(value)}")
        elif isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, (list, tuple)):
            words += [f"--{flag}", *(shlex.quote(str(item)) for item in value)]
        elif value is not None:
            words.append(shlex.quote(f"--{flag}={value}"))
    return " ".join(words)
