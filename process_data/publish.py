"""Publish the image database to a store, to which images can be added and removed during searches.

Reads   database.npy and its record, the image matrix, the index csv, the image files (for their
        hashes); class_names.csv if it exists
Writes  store/, or the store named as --store

    python -m process_data.publish --dpath=~/ir/

Images that the store has are left out: a command that was stopped goes on where it was. A store of
an earlier database is renewed in one step. Photos that were added to it stay, encoded again if the
model has changed.
"""

import argparse
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
from retrieval.ingest.publishing import publish_database
from retrieval.store.backends import STORE_HELP


def run(
    data_dir: Path,
    database: str = layout.DATABASE.name,
    image_root_path: str | None = None,
    store: str = layout.STORE.name,
    save_path: Path | None = None,
) -> int:
    """Publish a database and return how many of its images were new.

    Args:
        data_dir: The data directory.
        database: Name of the embeddings.
        image_root_path: Folder of the image files, relative to ``data_dir``; None takes the one
            that image_matrix was told.
        store: A folder, the address of a Milvus server or a file of Milvus Lite.
        save_path: The checkpoint that encoded the database, for photos that were added to a store
            of another model; None takes it from where build_image_db.py found it.
    """
    return publish_database(data_dir, database, image_root_path, store, save_path)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    parser.add_argument("--database", help="name of the embeddings")
    parser.add_argument(
        "--image_root_path",
        help="folder of the image files, relative to --dpath; default: as image_matrix was told",
    )
    parser.add_argument("--store", help=STORE_HELP)
    parser.add_argument(
        "--save_path",
        type=cli.user_path,
        help="the checkpoint that encoded the database, if it was moved: to encode photos again "
        "that were added to a store of another model",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
