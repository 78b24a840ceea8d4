"""A data directory that every stage has run on, and what each stage reads and writes of it."""

import hashlib
import importlib
import io
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.faults import runner
from tests.faults.stages import CASES, DATA, Case, Command

Files = dict[str, str]  # path below the data directory -> hash of the content


@dataclass
class World:
    """The whole data directory, and a run of each stage on it.

    Attributes:
        root: Folder of everything below.
        reads: Name of a case -> the files that it opens to read.
        writes: Name of a case -> the files that it replaces.
        results: Name of a case -> its files after an undisturbed run, and what it printed.
    """

    root: Path
    reads: dict[str, list[str]] = field(default_factory=dict)
    writes: dict[str, set[str]] = field(default_factory=dict)
    results: dict[str, tuple[Files, str]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.root / "whole"


def build(world: World) -> None:
    """Run every stage once, in order."""
    world.folder.mkdir(parents=True)
    for case in CASES:
        if case.is_built:
            extend(world, case)
        if case.name == "compcars.sample":
            _own_photos(world.folder / DATA)


def extend(world: World, case: Case) -> None:
    """Run a stage in the whole data directory, so that its files are there; note which they are."""
    _, world.writes[case.name] = _watched(world.folder, case, world.root / "imports")


def measure(world: World, case: Case) -> None:
    """Run a case once more, undisturbed; keep what it reads, writes and prints."""
    folder = copy(world.folder, world.root / "measured")
    printed, writes = _watched(folder, case, world.root / "imports", world.reads)
    world.results[case.name] = files(folder), printed
    world.writes.setdefault(case.name, set()).update(writes)
    shutil.rmtree(folder)


def _watched(
    folder: Path, case: Case, imports: Path, reads: dict[str, list[str]] | None = None
) -> tuple[str, set[str]]:
    """Run a case; return what it prints and the files it writes, and note those it reads."""
    opened = folder.with_name("opened")
    opened.write_text("")

    def hook() -> None:
        _watch(folder / DATA, opened)
        _note_imports(imports)

    outcome = succeed(case.command, folder, hook)
    _import_all(imports)
    found = [line.split(" ", 1) for line in dict.fromkeys(opened.read_text().splitlines())]
    if reads is not None:
        names = [name for how, name in found if how == "reads"]
        reads[case.name] = [name for name in names if (folder / DATA / name).is_file()]
    return outcome.out, {name for how, name in found if how == "writes"}


def succeed(
    command: Command, folder: Path, hook: Callable[[], None] | None = None
) -> runner.Outcome:
    """Run a command that must succeed."""
    outcome = runner.run(command, folder, 300, hook)
    if outcome.status:
        raise RuntimeError(f"{command.text}: exit {outcome.status}\n{outcome.err}")
    return outcome


def copy(source: Path, target: Path) -> Path:
    """Copy a folder; the photos are linked, as no stage writes them."""
    if not target.is_mount():
        shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    is_one_disk = source.stat().st_dev == target.stat().st_dev

    def duplicate(path: str, new: str) -> None:
        is_photo = path.endswith((".jpg", ".mat", ".txt"))
        os.link(path, new) if is_photo and is_one_disk else shutil.copyfile(path, new)

    shutil.copytree(source, target, copy_function=duplicate, symlinks=True, dirs_exist_ok=True)
    return target


def files(folder: Path) -> Files:
    """Return the hash of each file of the data directory in ``folder``."""
    found = {}
    for path in sorted((folder / DATA).rglob("*")):
        if path.is_symlink() or not path.is_dir():
            found[str(path.relative_to(folder / DATA))] = _hash(path)
    return found


def _hash(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return "not a file"
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return _content(digest, data) if path.name.startswith("model.ep") else digest


_contents: dict[str, str] = {}  # hash of a checkpoint's bytes -> hash of what it holds


def _content(digest: str, data: bytes) -> str:
    """Return the hash of what a checkpoint holds: pickles of equal values can differ in bytes."""
    if digest not in _contents:
        try:
            held = torch.load(io.BytesIO(data), weights_only=True)
            _contents[digest] = hashlib.sha256(_plain(held).encode()).hexdigest()
        except Exception:  # damaged, in some way of many
            _contents[digest] = digest
    return _contents[digest]


def _plain(value: Any) -> str:
    """Return values and tensors as text that is equal only for equal ones."""
    if isinstance(value, torch.Tensor):
        values = value.contiguous().flatten().view(torch.uint8) if value.numel() else value
        return f"{value.dtype}{tuple(value.shape)}{hashlib.sha256(values.numpy().data).hexdigest()}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{_plain(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_plain, value)) + "]"
    return repr(value)


def _own_photos(data_dir: Path) -> None:
    """Lay out some photos by class, as people have them, and fewer in another folder."""
    photos = sorted((data_dir / "Image_data/data/image").rglob("*.jpg"))[:9]
    for number, photo in enumerate(photos):
        for folder in ("photos", "fewer")[: 1 + (number < 5)]:
            target = data_dir / folder / ("001", "NA", "red")[number % 3] / photo.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(photo, target)


def _watch(data_dir: Path, log: Path) -> None:
    """Write the name of each file of the data directory that is replaced, or read before that."""
    file = log.open("w")
    written = set()

    def note(how: str, path: object) -> None:
        real = Path(os.path.realpath(os.fsdecode(str(path))))
        if how == "writes":
            written.add(real)
        if real.is_relative_to(data_dir) and (how == "writes" or real not in written):
            file.write(f"{how} {real.relative_to(data_dir)}\n")
            file.flush()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.rename":
            note("writes", arguments[1])
        elif event == "open" and isinstance(arguments[0], str):
            is_read = not (isinstance(arguments[1], str) and arguments[1][0] in "wxa")
            note("reads" if is_read else "writes", arguments[0])

    sys.addaudithook(hook)


def _note_imports(log: Path) -> None:
    """Write the name of each module that is imported."""
    file = log.open("a")

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "import":
            file.write(f"{arguments[0]}\n")
            file.flush()

    sys.addaudithook(hook)


def _import_all(log: Path) -> None:
    """Import what the stages imported, so that the runs to come find it in memory."""
    for name in dict.fromkeys(log.read_text().splitlines()):
        with suppress(Exception):  # tried by some library, and absent here as well
            importlib.import_module(name)
