"""Draw a small synthetic dataset in the CompCars format, for demos, tests and benchmarks.

Writes  Image_data/data/        web-nature photos with labels, names, attributes, split lists
        Image_data/sv_data/     surveillance-nature crops with names, colors, split lists
        Image_data/SAMPLE.json  the options; marks the folder as a sample

    python -m compcars.sample --dpath=demo --models=24 --images=60

The cars are invented. The same options give the same bytes; a second run finds the sample and
stops. An Image_data folder with other content is never changed.
"""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from compcars import sample_images, sample_tree
from compcars.sample_catalogue import draw_catalogue
from compcars.sample_plan import surveillance_shots, web_shots
from compcars.tree import IMAGE_DATA
from retrieval import cli
from retrieval.data import files
from retrieval.data.command_lines import Maker
from retrieval.data.formats import InputError, Json

log = logging.getLogger(__name__)

MARKER = Json(
    "SAMPLE.json",
    Maker("python -m compcars.sample"),
    "the options of a sample",
    dict[str, Any],
)
VERSION = 1  # raise it when the same options give other bytes than before
LOWEST = {
    "models": 2,
    "images": 1,
    "others": 0,
    "surveillance": 0,
    "width": 32,
    "height": 32,
    "seed": 0,
    "workers": 1,
}


def draw(root: Path, options: dict[str, int], workers: int | None = None) -> dict[str, int]:
    """Draw a sample into the empty folder ``root``; return the counts of makes, models, images."""
    seed, size = options["seed"], (options["width"], options["height"])
    catalogue = draw_catalogue(options["models"], seed)
    web = list(web_shots(catalogue, options["images"], options["others"], seed))
    watched = list(surveillance_shots(catalogue, options["surveillance"], seed))
    data, sv_data = root / "data", root / "sv_data"
    sv_data.mkdir(parents=True)
    drawings = sample_images.drawings(data, web, size) + sample_images.drawings(
        sv_data, watched, size
    )
    colors = sample_images.draw_all(drawings, workers)
    sample_tree.write_web_lists(data, catalogue, web, seed)
    sample_tree.write_surveillance_lists(sv_data, catalogue, watched, colors[len(web) :])
    viewpoints = Counter(shot.viewpoint for shot in web)
    return {
        "makes": len({model.make_id for model in catalogue.models}),
        "models": len(catalogue.models),
        **{f"viewpoint {viewpoint}": n for viewpoint, n in sorted(viewpoints.items())},
        "surveillance": len(watched),
    }


def run(
    data_dir: Path,
    models: int = 24,
    images: int = 60,
    others: int = 6,
    surveillance: int = 20,
    width: int = 480,
    height: int = 320,
    seed: int = 7,
    workers: int | None = None,
) -> Path:
    """Draw a sample into ``data_dir`` unless it exists; return its folder."""
    options = {
        "models": models,
        "images": images,
        "others": others,
        "surveillance": surveillance,
        "width": width,
        "height": height,
        "seed": seed,
    }
    _check({**options, "workers": 1 if workers is None else workers})
    if Path(data_dir).exists() and not Path(data_dir).is_dir():
        raise InputError(f"{data_dir} is not a folder; choose another --dpath")
    root = Path(data_dir) / IMAGE_DATA
    if _is_drawn(root, options):
        log.info("%s already holds this sample", root)
        return root
    with files.whole_folder(root) as part:
        counts = draw(part, options, workers)
        MARKER.save(part, {"version": VERSION, "options": options, "images": counts})
    log.info("%s in %s", ", ".join(f"{name}: {n}" for name, n in counts.items()), root)
    return root


def _check(options: dict[str, int]) -> None:
    for name, least in LOWEST.items():
        if options[name] < least:
            raise InputError(f"--{name} must be at least {least}, not {options[name]}")


def _is_drawn(root: Path, options: dict[str, int]) -> bool:
    """Return whether ``root`` holds the sample with these options; raise if it holds another."""
    if not root.exists():
        return False
    if not MARKER.at(root).exists():
        raise InputError(f"{root} exists and is not a sample; choose another --dpath")
    try:
        found = MARKER.load(root)
    except InputError:
        raise InputError(
            f"{MARKER.at(root)} is damaged; remove {root} or choose another --dpath"
        ) from None
    if found.get("version") == VERSION and found.get("options") == options:
        return True
    raise InputError(
        f"{root} is a sample drawn with other options (see {MARKER.at(root)}); "
        "remove the folder or choose another --dpath"
    )


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--models", type=int, help="number of car models; four per make")
    parser.add_argument(
        "--images",
        type=int,
        help="photos per model from the front and front side (viewpoints 1 and 4), one row of "
        "car_front.csv each; the default --min_len=58 of the split needs at least 58",
    )
    parser.add_argument(
        "--others",
        type=int,
        help="further photos per model, in turn from the rear side, the rear and the side",
    )
    parser.add_argument(
        "--surveillance",
        type=int,
        help="surveillance images per model; every sixth model has none",
    )
    parser.add_argument("--width", type=int, help="width of the photos in pixels")
    parser.add_argument("--height", type=int, help="height of the photos in pixels")
    parser.add_argument("--seed", type=int, help="random seed of cars and photos")
    parser.add_argument("--workers", type=int, help="drawing processes; left out: one per core")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
