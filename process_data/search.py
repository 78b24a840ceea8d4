"""Search the image database with a photo: which car is this?

Reads   the photos (--image), a checkpoint, database.npy, its csv, imageset.npy; class_names.csv and
        calibration.json if they exist
Writes  search.png, or the name given as --output

    python -m process_data.search --dpath=~/ir/ --save_path=~/ir/para/model.ep0 --image=photo.jpg

A photo is prepared as the database's images were. With calibration.json, the most likely model,
make and year come with their probabilities, and a photo may be said not to be in the database.
"""

import argparse
import json
import logging
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from retrieval import cli
from retrieval.compute import devices
from retrieval.data import files, layout
from retrieval.data.decode import Box
from retrieval.data.formats import InputError
from retrieval.data.sources import warn_stale
from retrieval.photo_search.boxes import parse_box
from retrieval.photo_search.photo_files import photo_files
from retrieval.photo_search.results import SearchResult

if TYPE_CHECKING:
    from retrieval.photo_search.car_detector import Detector

log = logging.getLogger(__name__)

AUTO = "auto"


def run(
    data_dir: Path,
    save_path: Path,
    image: Sequence[Path],
    box: str | None = None,
    k: int = 20,
    at_least: float | None = None,
    make: str | None = None,
    model: str | None = None,
    year: str | None = None,
    viewpoint: str | None = None,
    as_json: bool = False,
    explain: bool = False,
    database: str = layout.DATABASE.name,
    output: str = layout.SEARCH_SHEET.name,
    device: str = "auto",
) -> list[SearchResult]:
    """Print the answers to each photo, write the contact sheet, and return the answers.

    Args:
        data_dir: The data directory.
        save_path: The checkpoint that encoded the database.
        image: Photos, or folders of photos, relative to the working directory.
        box: The part of each photo to search with: x1,y1,x2,y2 in pixels, end exclusive; ``auto``
            finds the car; None takes the whole photo.
        k: Answers to look for.
        at_least: Hide answers of a lower similarity.
        make: Search only cars of this make: its name, or a part of names.
        model: Search only cars of this model: its name, a part of names, or the number of its
            Class.
        year: Search only cars of this year.
        viewpoint: Search only images from this viewpoint, such as front or 4.
        as_json: Print JSON.
        explain: Show where the similarities come from.
        database: Name of the embeddings of the database.
        output: Name of the contact sheet.
        device: Where the model runs: auto, cpu, cuda or cuda:n.

    Raises:
        InputError: No photo can be read. Some that cannot be are said in a line each, and have an
            error instead of answers in the JSON.
    """
    path = layout.SEARCH_SHEET.target(data_dir, output)
    part = None if box is None or box == AUTO else parse_box(box)
    photos = photo_files([image] if isinstance(image, Path) else image)
    from retrieval.photo_search.car_detector import coco_detector
    from retrieval.photo_search.engine import PhotoSearch
    from retrieval.photo_search.filters import Filters

    search = PhotoSearch.open(data_dir, save_path, database, device)
    warn_stale(data_dir, database)
    filters = Filters(make, model, year, viewpoint)
    if box is None and search.preprocessing.crop == "box":
        log.info("the database's images are cropped to the car: --box=x1,y1,x2,y2 or auto does so")
    detector = coco_detector() if box == AUTO else None

    def search_with(photo: Path) -> SearchResult:
        of_photo = part if detector is None else _car_box(photo, detector)
        return search.search(photo, of_photo, k, filters, at_least)

    results = _search_with_all(photos, search_with, as_json)
    from retrieval.photo_search.answer_sheet import answer_sheet

    sheet = answer_sheet(search, results, explain)
    with files.whole(path) as unfinished:
        sheet.save(unfinished, format="PNG")
    log.info("%s: answers to %d photo%s", path, len(results), "s" if len(results) > 1 else "")
    return results


def _search_with_all(
    photos: Sequence[Path], search_with: Callable[[Path], SearchResult], as_json: bool
) -> list[SearchResult]:
    """Search with each photo and print what is found; say which photos cannot be read."""
    from retrieval.photo_search.preprocessing import UnusablePhoto

    results: list[SearchResult] = []
    printed: list[dict[str, Any]] = []  # of each photo, as JSON
    errors: list[UnusablePhoto] = []
    for photo in photos:
        try:
            results.append(search_with(photo))
        except UnusablePhoto as error:
            errors.append(error)
            printed.append({"photo": str(photo), "error": str(error)})
            if len(photos) > 1:
                log.warning("%s", error)
            continue
        printed.append(results[-1].as_json())
        if not as_json:
            print(_text(results[-1]))
    if as_json:
        is_utf8 = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
        print(json.dumps(printed, indent=1, ensure_ascii=not is_utf8))
    if not results:
        if len(photos) == 1:
            raise errors[0]
        raise InputError(f"none of the {len(photos)} photos can be searched with: {errors[0]}")
    if errors:
        log.warning(
            "%d of %d photos cannot be searched with (listed above)", len(errors), len(photos)
        )
    return results


def _car_box(photo: Path, detector: "Detector") -> Box | None:
    """Return the box of the car in a photo; None, with a line, for the whole photo."""
    from retrieval.photo_search.car_detector import car_box
    from retrieval.photo_search.preprocessing import whole_photo

    box = car_box(whole_photo(photo, str(photo)), detector)
    if box is None:
        log.info("%s: no car was found, the whole photo is taken", photo)
    return box


def _text(result: SearchResult) -> str:
    """Return the answers to a photo as text."""
    from retrieval.photo_search.prediction import summary
    from retrieval.photo_search.results import table_of

    query = result.query
    part = "" if query.box is None else f", box {','.join(f'{x:.0f}' for x in query.box)}"
    lines = [f"{query.name}{part}: {result.n_searched} images searched"]
    if result.answers:
        lines += _aligned(table_of(result.answers))
    if result.n_hidden:
        lines.append(f"{result.n_hidden} hidden by --at_least")
    said = summary(result.prediction, result.is_filtered)
    return "\n".join([*lines, said or "no model is named: these images have no classes", ""])


def _aligned(rows: list[list[str]]) -> list[str]:
    """Return rows of cells as lines with aligned columns."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _width(text: str) -> int:
    """Return the columns of a terminal that a text takes; a Chinese letter takes two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    add = parser.add_argument
    add("--save_path", type=cli.user_path, required=True, help="the checkpoint, a file")
    add(
        "--image",
        type=cli.user_path,
        nargs="+",
        required=True,
        help="photos, or folders of photos, relative to the working directory",
    )
    add(
        "--box",
        metavar="X1,Y1,X2,Y2|auto",
        help="part to search with, in pixels; auto: find the car; default: the whole photo",
    )
    add("--k", type=int, help="number of answers")
    add("--at_least", type=float, metavar="SIMILARITY", help="hide answers of a lower similarity")
    add("--make", type=cli.plain_text, help="search only this make: its name, or a part of it")
    add(
        "--model",
        type=cli.plain_text,
        help="search only this model: its name, a part of it, or its Class",
    )
    add("--year", help="search only this year")
    add("--viewpoint", help="search only this viewpoint: front, rear, side, front side, rear side")
    add("--json", dest="as_json", action="store_true", help="print JSON")
    add("--explain", action="store_true", help="show where the similarities come from")
    add("--database", help="name of the embeddings")
    add("--output", help="name of the contact sheet to write")
    add("--device", help=devices.DEVICE_HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
