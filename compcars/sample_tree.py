"""The text and .mat files of a sample: labels, names, attributes and split lists."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from compcars.sample_catalogue import SURVEILLANCE_NAME_QUIRKS, Catalogue
from compcars.sample_plan import Shot

TYPES = (
    "MPV",
    "SUV",
    "sedan",
    "hatchback",
    "minibus",
    "fastback",
    "estate",
    "pickup",
    "hardtop convertible",
    "sports",
    "crossover",
    "convertible",
)
MAT_HEADER = b"MATLAB 5.0 MAT-file, written by compcars.sample".ljust(116)
UNRECOGNIZED_EVERY = 40  # every 40th surveillance image has the color -1
TRAIN_SHARE = 0.7  # share of a model's surveillance images in the training list


def label_text(shot: Shot, box: tuple[int, int, int, int]) -> str:
    """Return the three lines of a label; ``box`` is 0-based, end exclusive.

    Boxes on disk are 1-based and inclusive, so only x1 and y1 change.
    """
    x1, y1, x2, y2 = box
    return f"{shot.viewpoint}\n1\n{shot.false_box or f'{x1 + 1} {y1 + 1} {x2} {y2}'}\n"


def write_web_lists(root: Path, catalogue: Catalogue, shots: Sequence[Shot], seed: int) -> None:
    """Write misc/ and train_test_split/ of the web-nature data below ``root``."""
    misc, split = root / "misc", root / "train_test_split" / "classification"
    misc.mkdir(parents=True)
    split.mkdir(parents=True)
    rng = np.random.default_rng([seed, 30])
    names = {model.model_id: model.name for model in catalogue.models}
    write_mat(misc / "car_type.mat", types=cell([TYPES]))
    write_mat(
        misc / "make_model_name.mat",
        make_names=cell([name] for _, name in sorted(catalogue.make_names.items())),
        model_names=cell([names.get(i + 1)] for i in range(max(names))),
    )
    (misc / "attributes.txt").write_text(_attributes(catalogue, rng), encoding="utf-8")
    # As in CompCars, the lists cover some of the models, half of their images each, unsorted.
    n_listed = max(3 * len(catalogue.models) // 4, 1)
    listed = {model.model_id for model in catalogue.models[:n_listed]}
    lines = rng.permutation([f"{s.path}.jpg" for s in shots if s.model_id in listed]).tolist()
    half = (len(lines) + 1) // 2
    _write_lines(split / "train.txt", lines[:half])
    _write_lines(split / "test.txt", lines[half:])


def _attributes(catalogue: Catalogue, rng: np.random.Generator) -> str:
    lines = ["model_id maximum_speed displacement door_number seat_number type"]
    for model in catalogue.models:
        kind = TYPES.index(model.design.body.kind) + 1
        speed, litres = int(rng.integers(150, 260)), round(float(rng.uniform(1.0, 3.5)), 1)
        doors, seats = int(rng.choice([4, 5])), int(rng.choice([5, 7]))
        if model.number % 8 == 3:  # 0 means unknown, also for the type
            speed, litres, kind = 0, 0.0, 0
        lines.append(f"{model.model_id} {speed} {litres} {doors} {seats} {kind}")
    return "\n".join(lines) + "\n"


def write_surveillance_lists(
    root: Path, catalogue: Catalogue, shots: Sequence[Shot], colors: Sequence[int]
) -> None:
    """Write the .mat files and split lists of the surveillance-nature data below ``root``."""
    watched = catalogue.on_watch()
    rows = [
        (
            catalogue.make_names[model.make_id],
            SURVEILLANCE_NAME_QUIRKS.get(model.number, "{}").format(model.name),
            _smallest_integer(model.model_id),
        )
        for model in watched
    ]
    write_mat(root / "sv_make_model_name.mat", sv_make_model_name=cell(rows))
    codes = [-1 if i % UNRECOGNIZED_EVERY == 7 else code for i, code in enumerate(colors)]
    paths = [f"{shot.path}.jpg" for shot in shots]
    pairs = ((path, np.array([[code]], np.int16)) for path, code in zip(paths, codes, strict=True))
    write_mat(root / "color_list.mat", color_list=cell(pairs))
    train, test = [], []
    for model in watched:
        own = sorted(path for path in paths if path.startswith(f"{model.surveillance_id}/"))
        n_train = min(max(round(TRAIN_SHARE * len(own)), 1), max(len(own) - 1, 1))
        train += own[:n_train]
        test += own[n_train:]
    _write_lines(root / "train_surveillance.txt", train)
    _write_lines(root / "test_surveillance.txt", test)


def _smallest_integer(value: int) -> np.ndarray:
    """Return a 1x1 array of uint8 if the value fits, else uint16, as MATLAB stores it."""
    return np.array([[value]], np.uint8 if value < 256 else np.uint16)


def cell(rows: Iterable[Sequence[object]]) -> np.ndarray:
    """Return a MATLAB cell array; None becomes an empty cell.

    >>> cell([["a", None], ["b", 1]]).shape
    (2, 2)
    """
    table = [list(row) for row in rows]
    cells = np.empty((len(table), len(table[0]) if table else 0), dtype=object)
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            cells[i, j] = np.empty((0, 0), "U1") if value is None else value
    return cells


def write_mat(path: Path, **variables: np.ndarray) -> None:
    """Write a MATLAB 5 file; its header has no date, so the same values give the same bytes."""
    buffer = io.BytesIO()
    from scipy.io import savemat

    savemat(buffer, variables)
    path.write_bytes(MAT_HEADER + buffer.getvalue()[len(MAT_HEADER) :])


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
