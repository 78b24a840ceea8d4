"""Rows and collections as Milvus takes them."""

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.store.milvus.client import TIMEOUT_S
from retrieval.store.rows import Collection, ImageRow

if TYPE_CHECKING:
    from pymilvus import MilvusClient

NAME = "images"  # of the collection
RENEWED = "images_renewed"  # of one that is about to take its place
RECORD, RECALL = "retrieval.collection", "retrieval.recall"  # its properties
PUBLISHED = "retrieval.published"
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


def create_collection(client: "MilvusClient", collection: Collection, table: str = NAME) -> None:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=collection.dim)
    for name, length in TEXTS.items():
        schema.add_field(name, DataType.VARCHAR, max_length=length)
    for name in NUMBERS:
        schema.add_field(name, DataType.INT64)
    client.create_collection(
        table,
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
