"""The client of Milvus, for a server or a file of Milvus Lite, and its errors in one line."""

import logging
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data.formats import InputError
from retrieval.store.base import StoreFailure

if TYPE_CHECKING:
    from pymilvus import MilvusClient

TIMEOUT_S = 10.0  # of one call
# Otherwise gRPC waits for up to two minutes before it looks whether a server is back.
RECONNECT = {"grpc.max_reconnect_backoff_ms": 1000, "grpc.min_reconnect_backoff_ms": 1000}

_FILES: Counter[str] = Counter()  # how many clients this process has of each file
_FILES_LOCK = threading.Lock()
_WRITER_LOCK = threading.RLock()  # Milvus Lite opens one log twice if two threads write


@contextmanager
def milvus_errors(address: str) -> Iterator[None]:
    """Turn errors of Milvus into one line that names it."""
    from grpc import RpcError
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, RpcError) as error:  # a call that waits too long raises the second
        said = error.message if isinstance(error, MilvusException) else _details(error)
        text = " ".join(str(said).split())[:300]
        if is_file(address) and "Open local milvus failed" in text:
            raise StoreFailure(
                f"{address} cannot be opened: another process has it, or it is no file of Milvus "
                "Lite; several processes need a server, or LanceDB"
            ) from error
        raise StoreFailure(
            f"Milvus at {address} failed: {text}; see that it runs, and try again"
        ) from error


def _details(error: Any) -> str:
    return error.details() if hasattr(error, "details") else str(error)


def connect(address: str) -> "MilvusClient":
    """Return a client of a server or of a file of Milvus Lite."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pymilvus import MilvusClient
    except ImportError:
        raise InputError(
            "pymilvus is not installed; install it with: pip install -r requirements-milvus.txt"
        ) from None
    logging.getLogger("pymilvus").setLevel(logging.ERROR)  # it warns of what Milvus Lite lacks
    for name in ("milvus_lite", "grpc._server"):  # the second is that of Milvus Lite
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they log tracebacks of what it lacks
    if not is_file(address):
        with milvus_errors(address):
            return MilvusClient(uri=address, timeout=TIMEOUT_S, grpc_options=RECONNECT)
    Path(address).parent.mkdir(parents=True, exist_ok=True)
    with _FILES_LOCK:
        if not _FILES[str(Path(address).resolve())]:
            remove_partial_indexes(Path(address))
        with milvus_errors(address):
            client = MilvusClient(uri=address, timeout=TIMEOUT_S)
        _FILES[str(Path(address).resolve())] += 1
    return client


def disconnect(client: "MilvusClient", address: str) -> None:
    """Close a client; the last one of a file lets other processes use the file."""
    client.close()
    if not is_file(address):
        return
    from milvus_lite.server_manager import server_manager_instance

    with _FILES_LOCK:
        path = str(Path(address).resolve())
        _FILES[path] -= 1
        if not _FILES[path]:
            server_manager_instance.release_server(address)


def remove_partial_indexes(path: Path) -> None:
    """Remove what a killed process wrote of an index; Milvus Lite makes it anew from the rows.

    Milvus Lite 3.2 writes these copies of the vectors in place, and fails to open a partial one.
    """
    for file in path.glob("**/indexes/*.flat.idx"):
        try:
            np.load(file, mmap_mode="r")
        except (ValueError, EOFError):  # the header, or rows after it, are missing
            file.unlink()


def writing(address: str) -> AbstractContextManager[object]:
    """Return a context in which rows may be changed: for a file, one thread at a time."""
    return _WRITER_LOCK if is_file(address) else nullcontext()


def is_file(address: str) -> bool:
    """Return whether an address is that of a file of Milvus Lite."""
    return "://" not in address
