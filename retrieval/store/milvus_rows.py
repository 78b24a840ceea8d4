"""Rows and collections as Milvus takes them, its client and its errors."""

import base64
import json
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
from retrieval.store.rows import Collection, ImageRow

if TYPE_CHECKING:
    from pymilvus import MilvusClient

NAME = "images"  # of the collection
RECORD, RECALL = "retrieval.collection", "retrieval.recall"  # its properties
TEXTS = {
    "sha256": 64,
    "make": 256,
    "model": 256,
    "year": 64,
    "viewpoint": 64,
    "path": 4096,
    "box": 256,
}
TEXTS |= {"thumbnail": 65_535}  # the longest text of each column, in bytes
PLAIN = ("sha256", "make", "model", "year", "viewpoint", "path")  # stored as they are
NUMBERS = ("label", "added_ns")
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
            raise InputError(
                f"{address} cannot be opened: another process has it, or it is no file of Milvus "
                "Lite; several processes need a server, or LanceDB"
            ) from error
        raise InputError(
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
    logging.getLogger("milvus_lite").setLevel(logging.CRITICAL)  # and that logs tracebacks
    if not is_file(address):
        with milvus_errors(address):
            return MilvusClient(uri=address, timeout=TIMEOUT_S, grpc_options=RECONNECT)
    Path(address).parent.mkdir(parents=True, exist_ok=True)
    with _FILES_LOCK:
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


def writing(address: str) -> AbstractContextManager[object]:
    """Return a context in which rows may be changed: for a file, one thread at a time."""
    return _WRITER_LOCK if is_file(address) else nullcontext()


def is_file(address: str) -> bool:
    """Return whether an address is that of a file of Milvus Lite."""
    return "://" not in address


def create_collection(client: "MilvusClient", collection: Collection) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=collection.dim)
    for name, length in TEXTS.items():
        schema.add_field(name, DataType.VARCHAR, max_length=length)
    for name in NUMBERS:
        schema.add_field(name, DataType.INT64)
    client.create_collection(
        NAME,
        schema=schema,
        index_params=index_params(client, "FLAT"),
        consistency_level="Strong",  # a search sees what was added before
        num_shards=1,  # so that a call is one transaction
        properties={RECORD: collection.to_json()},
        timeout=6 * TIMEOUT_S,
    )


def index_params(client: "MilvusClient", kind: str, **params: int) -> Any:
    index = client.prepare_index_params()
    index.add_index("embedding", index_type=kind, metric_type="IP", params=params)
    return index


def packed(row: ImageRow, embedding: np.ndarray, added_ns: int) -> dict[str, Any]:
    """Return a row as Milvus takes it: it has no type for bytes or for a missing box."""
    return {
        "id": row.id,
        "embedding": embedding,
        **{name: getattr(row, name) for name in PLAIN},
        "label": row.label,
        "box": json.dumps(row.box),
        "thumbnail": base64.b64encode(row.thumbnail).decode(),
        "added_ns": added_ns,
    }


def unpacked(values: dict[str, Any]) -> ImageRow:
    box = json.loads(values["box"])
    return ImageRow(
        id=int(values["id"]),
        embedding=np.array(values["embedding"], np.float32),
        **{name: values[name] for name in PLAIN},
        label=int(values["label"]),
        box=None if box is None else tuple(box),
        thumbnail=base64.b64decode(values["thumbnail"]),
        added_ns=int(values["added_ns"]),
    )
