"""Check that a checkpoint, embeddings and photos are compatible; errors name the remedy."""

from pathlib import Path
from typing import Any

from retrieval.data import layout, provenance, sources
from retrieval.data.command_lines import checkpoints_of, command, remake_command
from retrieval.data.formats import InputError
from retrieval.model import checkpoint


def check_model(
    data_dir: Path,
    record: dict[str, Any],
    save_path: Path,
    database: str,
    store: str | None = None,
) -> None:
    """Refuse a checkpoint that did not encode the database, before torch is imported.

    Args:
        data_dir: The data directory.
        record: The record of the embeddings.
        save_path: The checkpoint.
        database: Name of the embeddings.
        store: The store that holds them, if they are of one.
    """
    check_comparable(record, store or database, data_dir)
    checkpoint.check_exists(save_path, data_dir)
    sha256 = provenance.sha256(save_path)
    if record.get("checkpoint_sha256") == sha256:
        return
    remedies = []
    if found := found_checkpoint(data_dir, record):
        remedies.append(f"name the one that did: --save_path={found}")
    now = sources.load_record_unchecked(data_dir, database)
    commands = []
    if store is None or now.get("checkpoint_sha256") != sha256:
        commands.append(_encode_command(data_dir, database, now or record, save_path))
    if store is not None:
        commands.append(publish_command(data_dir, store, database))
    what = "encode the database with this one" if len(commands) > bool(store) else "publish it anew"
    remedies.append(f"{what}: {' && '.join(commands)}")
    raise InputError(
        f"{save_path} is not the model that encoded {store or database}; {', or '.join(remedies)}"
    )


def found_checkpoint(
    data_dir: Path, record: dict[str, Any], save_path: Path | None = None
) -> Path | None:
    """Return the checkpoint that encoded some embeddings; None if it is nowhere.

    Args:
        data_dir: The data directory.
        record: The record of the embeddings.
        save_path: Where to look first; then where it was, and where a later training puts it.
    """
    places = checkpoints_of(data_dir, record) if record.get("checkpoint") else []
    for path in (*([save_path] if save_path else ()), *places):
        if path.is_file() and provenance.sha256(path) == record.get("checkpoint_sha256"):
            return path
    return None


def publish_command(data_dir: Path, store: str, database: str) -> str:
    """Return the command that publishes a database into a store, as it is typed."""
    usual = {"store": layout.STORE.name, "database": layout.DATABASE.name}
    options = {"store": store, "database": database}
    return command(
        "python -m process_data.publish",
        {name: value for name, value in options.items() if value != usual[name]},
        data_dir,
    )


def _encode_command(data_dir: Path, database: str, record: dict[str, Any], save_path: Path) -> str:
    new = record | {"checkpoint": str(save_path), "sources": {}}
    made_by = remake_command(data_dir, database, new)
    return made_by or layout.DATABASE.made_by(data_dir, database)


def check_comparable(record: dict[str, Any], database: str, data_dir: Path) -> None:
    """Refuse embeddings that a single photo cannot be compared with.

    Args:
        record: Their record.
        database: Their name, for the message.
        data_dir: The data directory, for the message.
    """
    for name, what in (
        ("transform_sha256", "transformed"),
        ("adapt_bn", "encoded with --adapt_bn"),
    ):
        if record.get(name):
            raise InputError(
                f"{database} was {what}, which a single photo cannot be; name the embeddings that "
                f"were made without it, or make them with: {layout.DATABASE.made_by(data_dir)}"
            )
