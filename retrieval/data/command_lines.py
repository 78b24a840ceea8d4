"""Reconstruct the commands that made files from their records."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FLAG_OF = {"is_valid": "isValid", "run_name": "run"}
ENCODING = ("batch_size", "precision", "tta", "scales", "adapt_bn", "runtime")
PREPARING = ("image_root_path", "image_resolution", "filter_type", "crop")
EARLIER = "earlier-"  # beginning of the folders where train.py puts other runs
SPLITTING = ("ratio", "min_len", "neg_count", "seed", "protocol")

# Options that name what a stage writes.
OUTPUT_FLAG = {
    "python -m process_data.image_matrix": "mname",
    "python build_image_db.py": "output",
    "python -m process_data.data_info": "output",
    "python -m process_data.publish": "store",
}


@dataclass(frozen=True, eq=False)
class Maker:
    """The command that makes a file, in any data directory.

    Attributes:
        stage: The beginning of the command.
        options: Option -> its value, or a function that finds it in a data directory.
    """

    stage: str
    options: dict[str, str | Callable[[Path], str | None]] = field(default_factory=dict)

    def typed(self, data_dir: Path, output: str | None = None) -> str:
        """Return the command as it is typed.

        >>> Maker("python x.py", {"k": "5"}).typed(Path("my cars"))
        "python x.py '--dpath=my cars' --k=5"

        Args:
            data_dir: The data directory.
            output: Name of the file to make, if it is not the usual one.
        """
        options = {
            name: value(data_dir) if callable(value) else value
            for name, value in self.options.items()
        }
        if output is not None and self.stage in OUTPUT_FLAG:
            options[OUTPUT_FLAG[self.stage]] = output
        return command(self.stage, options, data_dir)


def newest_checkpoint(data_dir: Path) -> str:
    """Return the checkpoint of the last training in ``para/``; without one, the first to come."""
    folder = data_dir / "para"
    first, untrained = folder / "model.ep0", folder / "model.untrained"
    newest = _newest(folder, first)
    return str(untrained if untrained.is_file() and not newest.is_file() else newest)


def web_photos(data_dir: Path) -> str:
    """Return the csv of the database's photos: of CompCars, unless only one's own are listed."""
    own = "indexinfo.csv"
    is_own = (data_dir / own).is_file() and not (data_dir / "car_front.csv").exists()
    return own if is_own else "car_front.csv"


def root_of(listed: Callable[[Path], str], usual: str) -> Callable[[Path], str]:
    """Return a function that finds the folder of the photos that a csv lists, from its record.

    Args:
        listed: Finds the csv.
        usual: The folder if the csv has no record that says it.
    """

    def found(data_dir: Path) -> str:
        try:
            path = data_dir / f"{listed(data_dir)}.json"
            record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            return str(record["options"]["image_root_path"])
        except (OSError, ValueError, RecursionError, LookupError, TypeError):
            return usual

    return found


def remake_command(data_dir: Path | None, name: str, record: dict[str, Any]) -> str | None:
    """Return the command that remakes a file, from its record; None if the record lacks it.

    Args:
        data_dir: The data directory; None writes ``...`` in its place.
        name: Name of the file.
        record: Its record.
    """
    start, options = "", dict[str, Any]()
    if "made_by" in record:
        start, options = record["made_by"], record["options"]
    elif "transform" in record:
        start, options = "python -m process_data.transform", record["transform"]
    elif "checkpoint" in record and "images" in record:
        start, options = "python build_image_db.py", _encoding(data_dir, name, record)
    elif "stage" in record:
        return search_command(record, data_dir)
    elif "split_sha256" in record:
        start, options = "python -m process_data.mask_data", {"tindex": record.get("tindex")}
    elif "protocol" in record:
        start = "python -m process_data.make_train_valid"
        options = {"iname": record["index"], **{key: record.get(key) for key in SPLITTING}}
    elif "image_resolution" in record:
        start = "python -m process_data.image_matrix"
        more = {key: record.get(key) for key in PREPARING}
        options = {"image_info": record["index"], "mname": name, **more}
    return command(start, options, data_dir) if start else None


def search_command(record: dict[str, Any], data_dir: Path | None = None) -> str:
    """Return the command that an evaluation was made with, from its recorded options.

    >>> search_command({"stage": "baselines", "queries": "valid", "options": {"k": 5}})
    'python -m process_data.baselines --dpath=... --k=5 --isValid=1'
    """
    options = dict(record["options"]) | {"is_valid": record["queries"] == "valid"}
    return command(f"python -m process_data.{record['stage']}", options, data_dir)


def command(start: str, options: dict[str, Any], data_dir: Path | None = None) -> str:
    """Return a command line; options that are None were left out.

    >>> command("python x.py", {"rate": None, "flip": False, "sizes": (1, 2), "name": "my cars"})
    "python x.py --dpath=... --no-flip --sizes=1,2 '--name=my cars'"
    """
    words = [start, shlex.quote(f"--dpath={'...' if data_dir is None else data_dir}")]
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


def checkpoints_of(data_dir: Path | None, record: dict[str, Any]) -> list[Path]:
    """Return candidate paths of the checkpoint of some embeddings, the likeliest first.

    Args:
        data_dir: The data directory, which may have been moved or copied; None: unknown.
        record: The record of the embeddings.
    """
    named = Path(record["checkpoint"])
    places = [named]
    if data_dir is not None:
        inside = (name for name in record.get("sources", {}) if Path(name).name == named.name)
        places = [*(data_dir / name for name in inside), named]
    moved = ([of, *sorted(of.parent.glob(f"{EARLIER}*/{of.name}"))] for of in places)
    return list(dict.fromkeys(path for paths in moved for path in paths))


def _encoding(data_dir: Path | None, name: str, record: dict[str, Any]) -> dict[str, Any]:
    options = {
        "save_path": _checkpoint(checkpoints_of(data_dir, record)[0]),
        "input": record["images"],
        "output": name,
    }
    if record["images"] is None:
        photos = dict(record["preparation"])
        options |= {"image_info": photos.pop("index"), **photos}
    # A switch that is off has no flag: None.
    return options | {key: record.get(key) or None for key in ENCODING}


def _checkpoint(path: Path) -> Path:
    """Return a checkpoint, or the newest one of its folder if a later training moved it."""
    return path if path.is_file() else _newest(path.parent, path)


def _newest(folder: Path, otherwise: Path) -> Path:
    """Return the checkpoint of the last epoch in a folder."""
    matches = {
        file: re.fullmatch(r"model\.ep(\d+)", file.name) for file in folder.glob("model.ep*")
    }
    epochs = {file: int(match[1]) for file, match in matches.items() if match}
    return max(epochs, key=lambda file: epochs[file], default=otherwise)
