"""Evaluation metadata: names of evaluations, their files, and which results are comparable."""

import logging
import re
from pathlib import Path
from typing import Any

from retrieval.data import layout, sources
from retrieval.data.command_lines import command, search_command
from retrieval.data.formats import InputError
from retrieval.evaluation.query_gallery import GroundTruth

log = logging.getLogger(__name__)

BASELINES = ("pixels", "histogram")  # reserved names: no other search may take them


def check_run_name(name: str) -> None:
    """Refuse names of evaluations that are not plain file names, or are reserved for a baseline."""
    if not re.fullmatch(r"[\w.+-]+", name):
        raise InputError(f"--run must be letters, digits and ._+- only; got {name!r}")
    if name in BASELINES:
        raise InputError(
            f"--run={name} is the name of a baseline (process_data.baselines); take another"
        )


def evaluation_file(name: str) -> str:
    """Return the file of an evaluation, relative to the data directory.

    >>> evaluation_file("mips-test")
    'evaluations/mips-test.json'
    """
    return Path(layout.EVALUATION.name).with_name(f"{name}.json").as_posix()


def evaluation_command(data_dir: Path, name: str) -> str:
    """Return a command that makes an evaluation of some name, as it is typed.

    >>> evaluation_command(Path("ir"), "nns-valid")
    'python -m process_data.nns --dpath=ir --isValid=1'
    """
    search, _, queries = name.rpartition("-")
    stage = {"nns": "nns", "pixels": "baselines", "histogram": "baselines"}.get(search, "mips")
    is_named = stage == "mips" and search not in ("", "mips")
    options: dict[str, Any] = {"run_name": search} if is_named else {}
    if queries == "valid":
        options["is_valid"] = True
    return command(f"python -m process_data.{stage}", options, data_dir)


def load_evaluation_records(data_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the record of each evaluation in ``evaluations/``, by name, in the order of names."""
    folder = layout.EVALUATION.at(data_dir).parent
    names = sorted(path.name for path in folder.glob("*.json"))
    if not names:
        raise InputError(
            f"{folder} has no evaluations; make one with: {layout.METRICS.made_by(data_dir)}"
        )
    return {
        Path(name).stem: layout.EVALUATION.load(data_dir, f"{folder.name}/{name}") for name in names
    }


def warn_stale_evaluations(data_dir: Path, records: dict[str, dict[str, Any]]) -> None:
    """Warn in one line which evaluations were made from other files than the present ones."""
    changed = {name: sources.changed_sources(data_dir, of) for name, of in records.items()}
    old = [name for name, files in changed.items() if files]
    if old:
        files = dict.fromkeys(file for name in old for file in changed[name])
        log.warning(
            "%s: older than %s; to measure again, type: %s%s",
            ", ".join(old),
            " and ".join(files),
            search_command(records[old[0]], data_dir),
            " (and so on)" if len(old) > 1 else "",
        )


def query_hash(record: dict[str, Any]) -> str:
    """Return the hash of the file that lists an evaluation's queries."""
    return record["inputs"][record["query_file"]]


def evaluation_metadata(truth: GroundTruth) -> dict[str, Any]:
    """Return the part of an evaluation's record that names its inputs and its setting."""
    record = getattr(truth, "query_record", {})  # ground truth alone has no embeddings
    metadata: dict[str, Any] = {
        "transductive": is_transductive(truth.name, record),
        "protocol": "classes" if truth.is_same_set else "images",
        "query_file": truth.query_file,
        "inputs": truth.inputs.sha256,
        "sources": sources.states(truth.inputs.data_dir, *truth.inputs.paths),
    }
    sides = [_side(of) for of in (record, getattr(truth, "gallery_record", {}))]
    if None not in sides and sides[0] != sides[1]:
        log.warning("the queries' images have %d px and the database's %d px", *sides)
        metadata["image_sides"] = sides
    if "weights" in record:  # where training started from
        metadata["weights"] = record["weights"]
    if "domains" in record:
        metadata["trained_on"] = " + ".join(record["domains"]) or "nothing"
        # With held-out classes, model.best is the best epoch on them.
        metadata |= {name: record[name] for name in ("checkpoint", "held_out")}
    return metadata


def _side(record: dict[str, Any]) -> int | None:
    """Return the side of the images that embeddings were made from, in pixels, if it is known."""
    return (record.get("preparation") or {}).get("image_resolution")


def is_transductive(queries: str, record: dict[str, Any]) -> bool:
    """Return whether the embedding of a query depends on other queries; no label is used.

    It does if batch norm was adapted to the queries' images, or if a transform was fitted on their
    embeddings: on test queries with ``--center=per_domain``, and on validation queries, which are
    rows of the database, with any transform.

    Args:
        queries: ``valid`` or ``test``.
        record: Origin of the queries' embeddings; empty if it was not recorded.
    """
    if record.get("adapt_bn"):
        return True
    if queries == "valid":
        return "transform" in record
    return is_fitted_on_queries(record)


def is_fitted_on_queries(record: dict[str, Any]) -> bool:
    """Return whether a transform of these embeddings, if any, was fitted on test queries."""
    return record.get("fitted_on_queries", False)
