"""Draw the images of a sample, in parallel."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from compcars.drawing.lighting import PAINTS
from compcars.drawing.photo import take_photo
from compcars.drawing.surveillance import watch
from compcars.sample_plan import Shot
from compcars.sample_tree import label_text

FEWEST_IN_PARALLEL = 100  # fewer images are not worth starting processes
WATCH_SCALE = 0.55  # width of a surveillance crop, relative to a photo


@dataclass(frozen=True)
class Drawing:
    """An image to draw and the files to write."""

    shot: Shot
    size: tuple[int, int]
    image: Path
    label: Path | None


def drawings(root: Path, shots: Sequence[Shot], size: tuple[int, int]) -> list[Drawing]:
    """Return the drawings of ``shots`` in the tree below ``root``; only web photos have labels."""
    return [
        Drawing(
            shot,
            size,
            root / "image" / f"{shot.path}.jpg",
            root / "label" / f"{shot.path}.txt" if shot.viewpoint is not None else None,
        )
        for shot in shots
    ]


def draw_one(drawing: Drawing) -> int:
    """Draw an image, write it and its label, and return the color code of the car."""
    shot, (width, height) = drawing.shot, drawing.size
    rng = np.random.default_rng((*shot.key, 1))  # own stream: any drawing order
    if shot.viewpoint is None:
        photo = watch(shot.design, round(WATCH_SCALE * width), rng)
    else:
        photo = take_photo(shot.design, shot.viewpoint, (width, height), rng)
    photo.image.save(drawing.image, quality=photo.quality)
    if drawing.label:
        text = label_text(shot, photo.box)
        drawing.label.write_text(text, encoding="utf-8", newline="\n")
    return PAINTS[photo.paint][2]


def draw_all(todo: Sequence[Drawing], workers: int | None = None) -> list[int]:
    """Draw images with ``workers`` processes (None: one per core); return their color codes."""
    for folder in {path.parent for d in todo for path in (d.image, d.label) if path}:
        folder.mkdir(parents=True, exist_ok=True)
    codes = _codes(todo, workers or _cores())
    return list(tqdm(codes, total=len(todo), desc="drawing", unit="image", disable=None))


def _codes(todo: Sequence[Drawing], workers: int) -> Iterator[int]:
    if workers == 1 or len(todo) < FEWEST_IN_PARALLEL:
        yield from map(draw_one, todo)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        yield from pool.map(draw_one, todo, chunksize=16)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _end_with_parent() -> None:
    """Exit when the parent process dies; the pool would wait forever."""

    def watch_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch_parent, daemon=True).start()
