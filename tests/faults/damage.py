"""Ways to damage a file, by kind, each with the outcomes that it may have.

A damage is a function that changes a file in place, drawn from a generator. What is allowed:

- ``refuse``: the stage says what is wrong, or the file does not matter to it: the results are those
  of the whole file.
- ``any``: the damaged file may be a valid one of other content. Only tracebacks, memory, time and
  lost files count.
- ``accept``: the file is fine, and refusing it would be wrong.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Damager = Callable[[Path, np.random.Generator], None]


@dataclass(frozen=True)
class Damage:
    """One way to damage a file."""

    name: str
    expect: str
    apply: Damager


DAMAGES: dict[str, list[Damage]] = {}  # kind of file -> its damages
MARKER = "code was executed"


def damages(*kinds: str, expect: str) -> Callable[[Damager], Damager]:
    """Register a function as a damage of files of these kinds."""

    def register(apply: Damager) -> Damager:
        for kind in kinds:
            damage = Damage(apply.__name__.strip("_"), expect, apply)
            DAMAGES.setdefault(kind, []).append(damage)
        return apply

    return register


KINDS = ("array", "table", "json", "checkpoint", "index", "image", "mat", "text", "rot")
SUFFIXES = {
    ".npy": "array",
    ".csv": "table",
    ".json": "json",
    ".index": "index",
    ".jpg": "image",
    ".mat": "mat",
    ".txt": "text",
}


def kind_of(name: str) -> str:
    """Return the kind of a file of the data directory."""
    return SUFFIXES.get(Path(name).suffix, "checkpoint")


class Touch:
    """Pickled, it makes whoever unpickles it write a marker in its working directory."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (MARKER,)


STRICT = ("array", "json", "checkpoint", "index")  # a part of one is no valid file


@damages(*KINDS[:-1], expect="refuse")
def _empty(path: Path, random: np.random.Generator) -> None:
    path.write_bytes(b"")


@damages(*STRICT, expect="refuse")
@damages("table", "image", "mat", "text", expect="any")
def _truncated(path: Path, random: np.random.Generator) -> None:
    data = path.read_bytes()
    # A json that lost only its last line break is whole.
    path.write_bytes(data[: random.integers(0, max(len(data) - 1, 1))])


@damages(*KINDS[:-1], expect="any")  # counts as absent
def _folder(path: Path, random: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


@damages(*KINDS[:-1], expect="any")  # counts as absent
def _fifo(path: Path, random: np.random.Generator) -> None:
    path.unlink()
    os.mkfifo(path)


@damages(*KINDS[:-1], expect="any")  # counts as absent
def _circular_link(path: Path, random: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to(path.name)


@damages(*KINDS[:-1], expect="any")  # counts as absent
def _dangling_link(path: Path, random: np.random.Generator) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@damages(*KINDS[:-1], expect="refuse")
def _random_bytes(path: Path, random: np.random.Generator) -> None:
    path.write_bytes(random.bytes(random.integers(1, 4000)))


@damages(*KINDS[:-1], expect="refuse")
def _pickle_with_code(path: Path, random: np.random.Generator) -> None:
    import pickle

    path.write_bytes(pickle.dumps(Touch(), protocol=int(random.integers(0, 5))))


@damages(*STRICT, expect="refuse")
@damages("table", "image", "mat", "text", expect="any")
def _zeroed_part(path: Path, random: np.random.Generator) -> None:
    """Zero a part, as disks that lost a block do."""
    data = bytearray(path.read_bytes())
    first = int(random.integers(0, len(data)))
    last = first + int(random.integers(1, 513))
    data[first:last] = bytes(len(data[first:last]))
    path.write_bytes(data)


@damages("rot", expect="refuse")
def _rotten(path: Path, random: np.random.Generator) -> None:
    """Flip a bit of the data, as old disks do."""
    data = bytearray(path.read_bytes())
    first = min(128, len(data) - 1) if path.suffix == ".npy" else 0  # behind the header
    data[random.integers(first, len(data))] ^= 1 << int(random.integers(0, 8))
    path.write_bytes(data)
