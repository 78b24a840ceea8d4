"""Serve the search page and its HTTP API.

Reads   store/ or the store named as --store, the checkpoint, the image files; calibration.json if
        it exists; what process_data.publish reads if there is a database
Writes  store/ if it is missing or of an earlier database, and what clients with the token add and
        remove

    python -m process_data.serve --dpath=~/ir/ --save_path=~/ir/para/model.ep0

Then open http://127.0.0.1:8000. Stop with Ctrl+C.
"""

import argparse
import ipaddress
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
from retrieval.compute import devices
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.store.backends import STORE_HELP

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    save_path: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allow_host: Sequence[str] = (),
    root_path: str = "",
    store: str = layout.STORE.name,
    database: str = layout.DATABASE.name,
    device: str = "auto",
) -> None:
    """Serve until interrupted.

    Args:
        data_dir: The data directory.
        save_path: The checkpoint that encoded the database.
        host: Address to listen on; 127.0.0.1 is for this computer alone.
        port: Port to listen on; 0: any that is free.
        token: What clients send to add and remove images; None: nobody can.
        allow_host: Other names of this server, such as that of a proxy before it; an address that
            is not loopback takes any name if this is empty.
        root_path: What a proxy puts before all paths, such as ``/cars``.
        store: A folder, the address of a Milvus server or a file of Milvus Lite.
        database: Name of the embeddings to publish if there is no store yet, or an older one.
        device: Where the model runs: auto, cpu, cuda or cuda:n.
    """
    if not 0 <= port <= 65535:
        raise InputError(f"--port must be from 0 to 65535; got {port}")
    if token is not None and (len(token) < 8 or not token.isascii() or not token.isprintable()):
        raise InputError("--token needs at least 8 printable ASCII characters")
    try:
        import cachetools  # noqa: F401
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{error.name} is not installed; install it with: pip install -r requirements-serve.txt"
        ) from None
    from retrieval.ingest.current_store import bring_up_to_date
    from retrieval.web import server
    from retrieval.web.app import create_app
    from retrieval.web.image_database import ImageDatabase
    from retrieval.web.middleware import proxies

    names, prefix = proxies.checked_hosts(allow_host), proxies.checked_prefix(root_path)
    bring_up_to_date(data_dir, save_path, database, store)
    _warn_if_open(host, token)
    sockets = server.bind(host, port)
    try:
        images = ImageDatabase.open(data_dir, save_path, store, device, database)
        images.warm_up()
        app = create_app(images, token, _own_names(host, names), root_path=prefix)
        log.info("%s: %d images", images.store.name, images.store.count())
        try:
            server.serve(app, sockets, host)
        finally:
            images.store.close()
    finally:
        for listening in sockets:
            listening.close()


def _warn_if_open(host: str, token: str | None) -> None:
    if not is_loopback(host):
        log.warning(
            "%s is not loopback: everyone who reaches it can search and see the images%s; "
            "connections are not encrypted",
            host,
            "" if token is None else ", and with the token change them",
        )


def _own_names(host: str, others: Sequence[str]) -> tuple[str, ...]:
    """Return the names that the server answers to."""
    if not is_loopback(host) and not others:
        return ("*",)
    return ("localhost", "127.0.0.1", "[::1]", host, *others)


def is_loopback(host: str) -> bool:
    """Return whether only programs of this computer reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    add = parser.add_argument
    add("--save_path", type=cli.user_path, required=True, help="the checkpoint, a file")
    add("--host", help="address to listen on; 127.0.0.1 is for this computer alone")
    add("--port", type=int, help="port to listen on; 0: any that is free")
    add(
        "--token",
        type=cli.plain_text,
        help="secret that clients send to add and remove images; without it, nobody can",
    )
    add(
        "--allow_host",
        nargs="+",
        metavar="NAME",
        help="other names of this server, such as that of a proxy before it; * allows any. On an "
        "address that is not loopback any name is allowed without this option",
    )
    add("--root_path", help="path prefix behind a proxy, such as /cars")
    add("--store", help=STORE_HELP)
    add("--database", help="embeddings to publish if the store is missing or older")
    add("--device", help=devices.DEVICE_HELP)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
