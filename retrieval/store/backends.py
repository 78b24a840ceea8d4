"""Open a store by its name: a folder, a Milvus server, or a file of Milvus Lite."""

from pathlib import Path
from urllib.parse import urlsplit

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.store.base import EXACT_ROWS, ImageStore, NoStore
from retrieval.store.rows import Collection

STORE_HELP = (
    "the store: a folder of the data directory (LanceDB), http://host:19530 (a Milvus server), "
    "or a file *.db (Milvus Lite)"
)


def open_store(
    data_dir: Path,
    store: str = layout.STORE.name,
    create: Collection | None = None,
    exact_rows: int = EXACT_ROWS,
) -> ImageStore:
    """Open a store.

    Args:
        data_dir: The data directory.
        store: A folder or a file ``*.db``, relative to ``data_dir``; or the address of a server.
        create: Create the store for this collection if it does not exist. A store that exists
            must hold embeddings of the same model.
        exact_rows: Most rows that a search compares with every query.

    Raises:
        NoStore: There is no store, and ``create`` is None.
        InputError: It cannot be used, or is of another model than ``create``.
    """
    opened: ImageStore
    made_by = layout.STORE.made_by(data_dir, store)
    if "://" in store or store.endswith(".db"):
        from retrieval.store.milvus.store import MilvusStore

        is_server = "://" in store
        address = _checked_address(store) if is_server else str(layout.STORE.at(data_dir, store))
        opened = MilvusStore.open(address, create, exact_rows, made_by)
    else:
        opened = _open_folder(layout.STORE.at(data_dir, store), create, exact_rows, made_by)
    if create is not None:
        opened.collection.check_same(create, opened.name)
    return opened


def _checked_address(address: str) -> str:
    """Return the address of a server.

    Raises:
        InputError: It is none.
    """
    try:
        parts = urlsplit(address)
        is_one = parts.scheme in ("http", "https", "tcp") and parts.hostname and parts.port != 0
        why = "" if is_one else "it has no host, or is not of http, https or tcp"
    except ValueError as error:
        why = str(error)
    if why:
        raise InputError(f"--store={address}: {why}; write it as http://host:19530")
    return address


def _open_folder(
    folder: Path, create: Collection | None, exact_rows: int, made_by: str
) -> ImageStore:
    try:
        import lance  # noqa: F401
    except ImportError:
        raise InputError(
            "LanceDB is not installed; install it with: pip install -r requirements-serve.txt"
        ) from None
    from retrieval.store.lance.store import LanceStore

    str(folder).encode()  # Lance takes no other names, and says so at length
    if not LanceStore.exists(folder):
        if create is None:
            raise NoStore(f"{folder} is missing; make it with: {made_by}")
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder} is not a store of images; name another --store")
        folder.parent.mkdir(parents=True, exist_ok=True)  # else Lance says it is gone
        LanceStore.create(folder, create)
    return LanceStore(folder, exact_rows)
