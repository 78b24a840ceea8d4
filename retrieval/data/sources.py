"""Detect files that are outdated: older than their sources.

The record of a file (`provenance`) has ``sources``: the state of each file that it was made from.
A stage that reads the file looks whether these states have changed since, and says in one line what
is old and what to type. Whatever is not there any more, or was not recorded, counts as unchanged.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retrieval.data import layout, schema
from retrieval.data.command_lines import EARLIER, remake_command
from retrieval.data.csv_text import CsvText
from retrieval.data.formats import RESERVED, InputError
from retrieval.data.npy_header import map_array
from retrieval.data.photo_folder import find_photos
from retrieval.data.provenance import fingerprint, record_name, sha256

log = logging.getLogger(__name__)

PHOTOS = "photos"  # key of a record: the sizes of the photos that a csv lists
THREADS, AT_ONCE = 8, 500  # that ask for sizes of photos, and how many each at once
FORM = {
    "sources?": dict[str, str],
    "photos?": dict[str, str] | None,
    "preparation?": dict[str, Any] | None,
    "images?": str | None,
}


def states(data_dir: Path, *names: str | Path, columns: Sequence[str] = ()) -> dict[str, str]:
    """Return the state of some files, by their names.

    Args:
        data_dir: The data directory.
        names: Files of it, or paths of others.
        columns: Of a csv, the columns that matter; none: all of the file.
    """
    paths = [data_dir / name if isinstance(name, str) else name for name in names]
    return {source_name(data_dir, path): state_of(path, columns) for path in paths}


def source_name(data_dir: Path, path: Path) -> str:
    """Return a file's path relative to the data directory, or the whole path outside of it."""
    path, root = path.absolute(), data_dir.absolute()
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def state_of(path: Path, columns: Sequence[str] = ()) -> str:
    """Return a text that another content of the file would not have.

    Args:
        path: An array, of which some rows count (``provenance.fingerprint``); a folder of photos,
            of which the names count; any other file.
        columns: Of a csv, the columns that matter: the set of their rows, in any order.
    """
    if path.suffix == ".npy":
        with suppress(ValueError):
            return fingerprint(map_array(path))
    if path.is_dir():
        return _digest(find_photos(path).paths)
    if path.suffix == ".csv" and columns:
        with suppress(ValueError, LookupError):
            return f"{','.join(columns)}: {_columns_hash(path, columns)}"
    return sha256(path)


def _columns_hash(path: Path, columns: Sequence[str]) -> str:
    """Return the hash of some columns; read without pandas, which takes long to import."""
    rows = CsvText.of_file(path).records()
    return _digest(sorted({tuple(row[column] for column in columns) for _, row in rows}))


def photo_states(photos: Sequence[Path]) -> dict[str, str]:
    """Return the states of photos as a whole: of their sizes in bytes.

    Not of their times, as copies have others: equal photos give equal records.
    """
    return {"sizes": _digest(_sizes(photos))}


def _sizes(photos: Sequence[Path]) -> list[int]:
    """Return the size of each photo in bytes; -1 of those that are gone."""

    def of_some(some: Sequence[Path]) -> list[int]:
        found = []
        for photo in some:
            try:
                found.append(photo.stat().st_size)
            except (OSError, ValueError):
                found.append(-1)
        return found

    parts = [photos[start : start + AT_ONCE] for start in range(0, len(photos), AT_ONCE)]
    with ThreadPoolExecutor(THREADS) as pool:  # a disk of the network answers many at once
        return [size for part in pool.map(of_some, parts) for size in part]


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def changed_sources(data_dir: Path, record: dict[str, Any], photos: bool = False) -> list[str]:
    """Return the files that a record names and that have another state now.

    Args:
        data_dir: The data directory.
        record: The record.
        photos: Look at folders of photos, too, which takes a while.
    """
    found = []
    for name, state in _sources_of(record).items():
        path, columns = data_dir / name, state.partition(": ")[0].split(",") if ":" in state else ()
        if path.is_file() or (path.is_dir() and photos):
            is_changed = state_of(path, columns) != state
        else:
            is_changed = not path.exists() and _is_put_aside(path)
        if is_changed:
            found.append(name)
    return found


def save_list_record(
    data_dir: Path, path: Path, made_by: str, options: dict[str, Any], origins: dict[str, str]
) -> None:
    """Write the record of a csv that lists images.

    Args:
        data_dir: The data directory.
        path: The csv, just written.
        made_by: The beginning of the command that made it.
        options: The options of that command; those that are None or False were left out.
        origins: `states` of what it was made from: folders of photos, and files.
    """
    name = source_name(data_dir, path)
    record = {
        "content": sha256(path),
        "made_by": made_by,
        "options": {key: value or None for key, value in options.items()},
        "sources": origins,
    }
    layout.DATABASE_RECORD.save(data_dir, record, record_name(name))


def _sources_of(record: dict[str, Any]) -> dict[str, str]:
    known = record.get("sources")
    return dict(known) if known and schema.fits(known, dict[str, str]) else {}


def _is_put_aside(path: Path) -> bool:
    """Return whether a checkpoint was moved by a later training."""
    return path.parent.is_dir() and any(path.parent.glob(f"{EARLIER}*/{path.name}"))


def photos_have_changed(data_dir: Path, record: dict[str, Any]) -> bool:
    """Return whether the photos that an array was made from have other sizes now.

    Args:
        data_dir: The data directory.
        record: Of an image matrix, or of embeddings that were made from photos.
    """
    known, prepared = record.get(PHOTOS), record.get("preparation") or record
    root = data_dir / Path(str(prepared.get("image_root_path"))).expanduser()
    if not known or not root.is_dir():
        return False
    try:
        rows = layout.IMAGE_INDEX.load_rows(data_dir, str(prepared.get("index")))
    except InputError:
        return False
    photos = [root / row["Path"] for row in sorted(rows, key=lambda row: int(row["Index"]))]
    sizes = _sizes(photos)
    # Photos that are gone, as from a machine that only trains, say nothing about the others.
    return -1 not in sizes and _digest(sizes) != known.get("sizes")


def warn_stale(data_dir: Path, *names: str, photos: bool = False) -> list[str]:
    """Warn in one line which files are older than their sources, with the commands that renew them.

    Args:
        data_dir: The data directory.
        names: Files with a record; those that they were made from are looked at, too.
        photos: Look at the photos behind an image matrix, too, which takes a while.

    Returns:
        The names of the files that are old.
    """
    look = _Look(data_dir, photos)
    for name in names:
        look.is_old(name)
    if look.reasons:
        log.warning(
            "%s; to renew, type: %s",
            ", ".join(f"{name} is older than {source}" for name, source in look.reasons.items()),
            " && ".join(look.commands),
        )
    return list(look.reasons)


def commands_to_renew(data_dir: Path, name: str) -> str:
    """Return the commands that remake a file and all its sources that have a record."""
    commands: list[str] = []
    seen: set[str] = set()

    def add(name: str) -> None:
        record = load_record_unchecked(data_dir, name)
        if record and name not in seen:
            seen.add(name)
            for source in dict.fromkeys([*_sources_of(record), record.get("images")]):
                if source:
                    add(source)
            commands.append(_remedy(data_dir, name, record))

    add(name)
    return " && ".join(dict.fromkeys(commands))


@dataclass
class _Look:
    """A look at files and at all that they were made from.

    Attributes:
        data_dir: The data directory.
        photos: Whether to look at the photos, too.
        reasons: File -> what it is older than.
        commands: What to type, in order.
    """

    data_dir: Path
    photos: bool
    reasons: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    _known: dict[str, bool] = field(default_factory=dict)

    def is_old(self, name: str) -> bool:
        """Return whether a file, or one that it was made from, is older than its sources."""
        if name in self._known:
            return self._known[name]
        self._known[name] = False
        record = load_record_unchecked(self.data_dir, name)
        if not record:
            return False
        old = [source for source in _sources_of(record) if self.is_old(source)]
        changed = changed_sources(self.data_dir, record, self.photos)
        if not changed and self.photos and photos_have_changed(self.data_dir, record):
            changed.append("its photos")
        if changed:
            self.reasons[name] = " and ".join(changed)
        if changed or old:
            self.commands.append(_remedy(self.data_dir, name, record))
            self._known[name] = True
        return self._known[name]


def load_record_unchecked(data_dir: Path, name: str) -> dict[str, Any]:
    """Return the record of a file, whatever the file holds now; empty if there is none."""
    try:
        path = data_dir / record_name(name)
        if not path.is_file():  # a pipe would wait for a writer
            return {}
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if schema.fits(record, FORM) else {}


def _remedy(data_dir: Path, name: str, record: dict[str, Any]) -> str:
    with suppress(KeyError, TypeError, AttributeError):  # a record of another form
        if made_by := remake_command(data_dir, name, record):
            return made_by
    return RESERVED[name].made_by(data_dir) if name in RESERVED else f"make {name} again"
