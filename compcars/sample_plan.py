"""The images of a sample, and the quirks of their labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from compcars.drawing.designs import Design
from compcars.sample_catalogue import Catalogue, Model

WEB, WATCH = 0, 1  # kind of image, in the keys of the random streams
UNCERTAIN_EVERY = 4  # every fourth model has an image of viewpoint -1
UNKNOWN_YEAR_EVERY = 6  # every sixth model has images of unknown year
BOGUS_YEAR = "5008"  # a number from a model's name in place of the year


@dataclass(frozen=True)
class Shot:
    """One image to draw."""

    path: PurePosixPath  # below image/, without suffix
    design: Design
    viewpoint: int | None  # None: a traffic camera
    model_id: int
    key: tuple[int, ...]  # seed of its random stream
    false_box: str | None = None  # written to the label instead of the true box


def web_shots(catalogue: Catalogue, images: int, others: int, seed: int) -> Iterator[Shot]:
    """Yield the web-nature images, model by model."""
    for model in catalogue.models:
        # As in CompCars, a third of the front images have viewpoint 1, straight from the front.
        viewpoints = [1 if i % 3 == 0 else 4 for i in range(images)]
        viewpoints += [(5, 2, 3)[i % 3] for i in range(others)]
        viewpoints += [-1] * (model.number % UNCERTAIN_EVERY == 0)
        for i, viewpoint in enumerate(viewpoints):
            key = (seed, 20, WEB, model.number, i)
            rng = np.random.default_rng((*key, 0))
            year = int(rng.choice(model.years))
            # Two models have an image of the same file name.
            shared = model.number < 2 and i == images - 1
            stem = _stem(np.random.default_rng((seed, 21)) if shared else rng)
            yield Shot(
                PurePosixPath(str(model.make_id), str(model.model_id), _year(model, year, i), stem),
                model.later_design if year == model.years[-1] else model.design,
                viewpoint,
                model.model_id,
                key,
                {(0, 0): "131 1 131 1", (1, 0): "1 1 2 -15"}.get((model.number, i)),
            )


def surveillance_shots(catalogue: Catalogue, images: int, seed: int) -> Iterator[Shot]:
    """Yield the surveillance-nature images, sorted by surveillance id."""
    for model in catalogue.on_watch():
        for i in range(images):
            key = (seed, 20, WATCH, model.number, i)
            rng = np.random.default_rng((*key, 0))
            design = model.later_design if rng.random() < 0.4 else model.design
            path = PurePosixPath(str(model.surveillance_id), _stem(rng))
            yield Shot(path, design, None, model.model_id, key)


def _stem(rng: np.random.Generator) -> str:
    return f"{int(rng.integers(16**14)):014x}"


def _year(model: Model, year: int, i: int) -> str:
    if model.number == 1 and i % 20 == 1:
        return BOGUS_YEAR
    if model.number % UNKNOWN_YEAR_EVERY == 0 and i % 20 == 2:
        return "unknown"
    return str(year)
