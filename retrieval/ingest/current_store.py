"""Open the store for a server, and bring it up to date with the database."""

import logging
from pathlib import Path
from typing import Any

from retrieval.data import layout, provenance
from retrieval.data.formats import InputError
from retrieval.ingest.publishing import is_of, publish_database, published_states
from retrieval.model import checkpoint
from retrieval.photo_search.compatibility import publish_command
from retrieval.store.backends import open_store
from retrieval.store.base import ImageStore, NoStore

log = logging.getLogger(__name__)


def bring_up_to_date(data_dir: Path, save_path: Path, database: str, store: str) -> None:
    """Publish a database into a store that is missing, half full, or of an earlier database.

    It says so in one line. A store on a server, which others may use, is not renewed, nor is one
    that belongs to the model while the database does not: a line says what to type.

    Args:
        data_dir: The data directory.
        save_path: The checkpoint that will encode photos.
        database: Name of the embeddings.
        store: A folder, the address of a Milvus server or a file of Milvus Lite.
    """
    checkpoint.check_exists(save_path, data_dir)
    has_database = layout.DATABASE.at(data_dir, database).exists()
    try:
        with open_store(data_dir, store) as target:
            n_row, known = target.count(), target.collection.record
            if n_row and (not has_database or _is_current(data_dir, database, target)):
                return
    except NoStore:
        n_row, known = 0, {}
        if not has_database:
            raise
    if not n_row:
        log.info("%s has no images yet: publishing %s", store, database)
        publish_database(data_dir, database, None, store, save_path)
        return
    model = provenance.sha256(save_path)
    is_own_store = known.get("checkpoint_sha256") == model
    is_own_database = _record(data_dir, database).get("checkpoint_sha256") == model
    if is_own_database and "://" not in store:
        try:
            publish_database(data_dir, database, None, store, save_path)
        except InputError as error:
            if not is_own_store:
                raise
            log.warning("%s is served as it is: %s", store, error)
    elif is_own_store:
        log.warning(
            "%s is served as it is, though %s has changed since it was published; to renew it, "
            "type: %s",
            store,
            database,
            publish_command(data_dir, store, database),
        )


def _is_current(data_dir: Path, database: str, target: ImageStore) -> bool:
    """Return whether a store has all rows of a database that can be published."""
    record = _record(data_dir, database)
    if not record.get("preparation"):
        return True
    states = published_states(data_dir, database, record)
    return target.published() is not None and is_of(target, record, states)


def _record(data_dir: Path, database: str) -> dict[str, Any]:
    return provenance.load_record(data_dir, database) or {}
