"""Under which conditions an evaluation was made: what may be set beside what."""

from pathlib import Path
from typing import Any

from retrieval.data import layout, provenance
from retrieval.evaluation.query_gallery import QueryGallery

BASELINES = ("pixels", "histogram")  # their names are taken: nothing else is kept under them


def input_name(data_dir: Path, path: Path) -> str:
    """Return how a file is named from the data directory, which two files never share.

    >>> input_name(Path("ir"), Path("ir/old/test.npy")), input_name(Path("ir"), Path("/x/test.npy"))
    ('old/test.npy', '/x/test.npy')
    """
    return (path.relative_to(data_dir) if path.is_relative_to(data_dir) else path).as_posix()


def query_hash(record: dict[str, Any]) -> str | None:
    """Return the hash of the file that lists an evaluation's queries; None where unknown."""
    usual = layout.VALID_QUERIES if record["queries"] == "valid" else layout.TEST_MASKED
    name = record.get("query_file") or record.get("options", {}).get("to_test") or usual.name
    return record.get("inputs", {}).get(name)


def describe(data_dir: Path, task: QueryGallery) -> dict[str, Any]:
    """Return what an evaluation's record says of its files and of how they were made."""
    queries, query_file = (input_name(data_dir, path) for path in task.files[1:3])
    return {
        "transductive": is_transductive(data_dir, task.name, queries),
        "query_file": query_file,
        "inputs": {input_name(data_dir, path): provenance.sha256(path) for path in task.files},
    }


def is_transductive(data_dir: Path, queries: str, query_matrix: str) -> bool:
    """Return whether the embedding of a query depends on other queries; no label is used.

    It does where batch norm was adapted to the queries' images, and where a transform was fitted
    on their embeddings: on test queries with ``--center=per_domain``, and on validation queries,
    which are rows of the database, with any transform.

    Args:
        data_dir: The data directory.
        queries: ``valid`` or ``test``.
        query_matrix: Name of the file with the queries' embeddings.
    """
    record = provenance.load(data_dir, query_matrix) or {}
    if record.get("adapt_bn"):
        return True
    if queries == "valid":
        return "transform" in record
    return is_fitted_on_queries(record)


def is_fitted_on_queries(record: dict[str, Any]) -> bool:
    """Return whether a transform of these embeddings, if any, was fitted on test queries."""
    return record.get("fitted_on_queries", False)
