"""Remove images from a store: by their ids, or all that fit a filter.

Reads   store/, or the store named as --store
Writes  the same

    python -m process_data.remove --dpath=~/ir/ --ids 17 4503599627370497
    python -m process_data.remove --dpath=~/ir/ --make="Alfa Romeo" --year 2009 2010
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from retrieval import cli
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.store.backends import STORE_HELP, open_store
from retrieval.store.name_lookup import filter_of

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    ids: Sequence[int] = (),
    make: Sequence[str] = (),
    model: Sequence[str] = (),
    year: Sequence[str] = (),
    viewpoint: Sequence[str] = (),
    store: str = layout.STORE.name,
) -> int:
    """Remove images and return how many there were.

    Args:
        data_dir: The data directory.
        ids: Ids of images.
        make: Names of makes. Of several filters, an image must fit all.
        model: Names of models, or numbers of classes.
        year: Years.
        viewpoint: Names of viewpoints, such as ``front side``.
        store: A folder, the address of a Milvus server or a file of Milvus Lite.
    """
    with open_store(data_dir, store) as target:
        where = filter_of(target.facets(), target.name, make, model, year, viewpoint)
        if bool(ids) == bool(where):
            raise InputError(
                f"name the images to remove from {target.name}: either --ids, or some of --make, "
                "--model, --year and --viewpoint"
            )
        removed = target.remove(ids or target.ids(where).tolist())
        if removed:
            target.optimize()
        log.info("%s: %d images removed; it holds %d", target.name, removed, target.count())
    return removed


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--ids", type=int, nargs="+", help="ids of images")
    parser.add_argument("--make", type=cli.plain_text, nargs="+", help="names of makes")
    parser.add_argument(
        "--model", type=cli.plain_text, nargs="+", help="names of models, or numbers of classes"
    )
    parser.add_argument("--year", nargs="+", help="years")
    parser.add_argument("--viewpoint", nargs="+", help='viewpoints, such as "front side"')
    parser.add_argument("--store", help=STORE_HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
