"""The makes and models of a sample: names, ids and years, with the quirks of the dataset.

As in CompCars, ids have gaps, cells of unused ids are empty, one make has two ids, and some names
contain stray spaces or non-ASCII letters. A reader that works on a sample has handled them all.
"""

from dataclasses import dataclass, replace

import numpy as np

from compcars.drawing.designs import Design, draw_designs, facelift

# Position in the catalogue -> format of the model's name.
NAME_QUIRKS = {0: "{} ", 1: " {}", 2: "{} π", 3: "风驰{}"}
SURVEILLANCE_NAME_QUIRKS = {1: "{}’"}  # a stray apostrophe, absent from the web-nature name
STARTS = ["b", "br", "c", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "tr", "v", "z"]
VOWELS, ENDS = list("aeiou"), list("lnrsx")
UNUSED_MAKE_ID = 2
SECOND_ID_ABOVE = 255  # added to later model ids: they need two bytes, as in the real files
LEFT_OUT_OF_SURVEILLANCE = 6  # every sixth model has no surveillance images


@dataclass(frozen=True)
class Model:
    """A model of the sample; ``number`` is its position in the catalogue."""

    number: int
    model_id: int
    make_id: int
    name: str
    design: Design
    later_design: Design  # after the facelift, in the last of the years
    years: tuple[int, ...]
    surveillance_id: int | None


@dataclass(frozen=True)
class Catalogue:
    models: list[Model]
    make_names: dict[int, str]  # by make id, including makes without images

    def on_watch(self) -> list[Model]:
        """Return the models with surveillance images, sorted by surveillance id."""
        watched = [m for m in self.models if m.surveillance_id is not None]
        return sorted(watched, key=lambda model: model.surveillance_id or 0)


def draw_catalogue(n_model: int, seed: int) -> Catalogue:
    """Return the makes and models of a sample.

    >>> catalogue = draw_catalogue(24, seed=7)
    >>> len(catalogue.models), len(catalogue.make_names)
    (24, 7)
    """
    rng = np.random.default_rng([seed, 10])
    model_id, models = 0, []
    for number, design in enumerate(draw_designs(n_model, seed)):
        model_id += int(rng.integers(1, 16))
        if number == n_model // 2:
            model_id += SECOND_ID_ABOVE
        first = int(rng.integers(2005, 2013))
        models.append(
            Model(
                number,
                model_id,
                _make_id(design.make),
                "",
                design,
                facelift(design, seed),
                tuple(range(first, first + int(rng.integers(2, 4)))),
                None,
            )
        )
    make_names = _make_names(len({m.make_id for m in models}), rng)
    models = [replace(m, name=_model_name(m, make_names[m.make_id], rng)) for m in models]
    return Catalogue(_with_surveillance_ids(models, rng), make_names)


def _make_id(make: int) -> int:
    return make + 1 + (make + 1 >= UNUSED_MAKE_ID)


def _make_names(n_make: int, rng: np.random.Generator) -> dict[int, str]:
    names: dict[int, str] = {}
    while len(names) <= n_make:  # one spare name
        name = _word(rng).capitalize()
        if name not in names.values():
            names[len(names) + 1] = name
    if n_make >= 2:
        names[3] += " "
    if n_make >= 3:
        names[n_make + 1] = names[1]
    return names


def _model_name(model: Model, make_name: str, rng: np.random.Generator) -> str:
    """Return a name with the make, like "Audi Q5", or without it, like "Tiguan"."""
    word = _word(rng).capitalize()
    code = f"{make_name.strip()} {chr(65 + int(rng.integers(26)))}{int(rng.integers(1, 10))}"
    name = word if rng.random() < 0.5 else code
    return NAME_QUIRKS.get(model.number, "{}").format(name)


def _word(rng: np.random.Generator) -> str:
    """Return an invented word of two or three syllables."""
    syllables = [rng.choice(STARTS) + rng.choice(VOWELS) for _ in range(rng.integers(2, 4))]
    return "".join(syllables) + str(rng.choice(ENDS))


def _with_surveillance_ids(models: list[Model], rng: np.random.Generator) -> list[Model]:
    left_out = LEFT_OUT_OF_SURVEILLANCE - 1
    watched = [m.number for m in models if m.number % LEFT_OUT_OF_SURVEILLANCE != left_out]
    ids = dict(zip(watched, (1 + rng.permutation(len(watched))).tolist(), strict=True))
    return [replace(m, surveillance_id=ids.get(m.number)) for m in models]
