"""Under which conditions an evaluation was made: what may be set beside what."""

from pathlib import Path
from typing import Any

from retrieval import layout, provenance
from retrieval.task import Task

BASELINES = ("pixels", "histogram")  # their names are taken: nothing else is kept under them


def stage_of(record: dict[str, Any]) -> str:
    """Return the stage that made an evaluation: its name is people's choice.

    Older records do not say it; their options tell.

    >>> stage_of({"search": "my codes", "options": {"k": 20, "dimension": 32}})
    'nns'
    >>> stage_of({"search": "pixels", "options": {"k": 20, "run_name": "pixels"}})
    'mips'
    """
    if "stage" in record:
        return record["stage"]
    if record["search"] in BASELINES and "run_name" not in record["options"]:
        return "baselines"
    return "nns" if "dimension" in record["options"] else "mips"


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


def describe(data_dir: Path, task: Task) -> dict[str, Any]:
    """Return what an evaluation's record says of its files and of how they were made."""
    database, queries, query_file = (input_name(data_dir, path) for path in task.files[:3])
    return {
        "transductive": is_transductive(data_dir, task.name, database, queries, query_file),
        "query_file": query_file,
        "inputs": {input_name(data_dir, path): provenance.sha256(path) for path in task.files},
    }


def is_transductive(
    data_dir: Path, queries: str, database: str, query_matrix: str, query_file: str
) -> bool:
    """Return whether the embeddings of a query depend on other queries, if on no label.

    Batch norm may have been adapted to the queries' images; a transform fitted on their
    embeddings, as any transform is where the queries are images of the database; and the network
    adapted to the test images, but for those that it held out.

    Args:
        data_dir: The data directory.
        queries: ``valid`` or ``test``.
        database: Name of the database's embeddings.
        query_matrix: Name of the queries' embeddings.
        query_file: Name of the file that lists the queries.
    """
    record = provenance.load(data_dir, query_matrix) or {}
    if record.get("adapt_bn"):
        return True
    if queries == "valid":
        return "transform" in record
    if is_fitted_on_queries(record):
        return True
    records = record, provenance.load(data_dir, database) or {}
    unseen = {made.get("held_out_sha256") for made in records if made.get("adapted")}
    return bool(unseen) and unseen != {provenance.sha256(data_dir / query_file)}


def is_fitted_on_queries(record: dict[str, Any]) -> bool:
    """Return whether a transform of these embeddings, if any, was fitted on test queries."""
    transform = record.get("transform") or {}  # of older records: the last one only
    is_both = transform.get("fit") == "both" or transform.get("center") == "per_domain"
    return record.get("fitted_on_queries", is_both)
