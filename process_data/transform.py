"""Center and whiten embeddings, and reduce their dimensions; no label is used.

Reads   database.npy, tdatabase.npy (or --database, --queries)
Writes  database_t.npy, tdatabase_t.npy (or --output_database, --output_queries), each with a .json;
        and the transform: database_t.means.npy, database_t.matrix.npy

    python -m process_data.transform --dpath=~/ir/ --power=0.5 --center=per_domain
    python -m process_data.mips --dpath=~/ir/ --database=database_t.npy \\
        --test_matrix=tdatabase_t.npy

The transform is fitted on the database, which holds the validation images too, without labels.
--center=per_domain also takes the mean of all queries: a transductive setting, which the
evaluation records.
"""

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

import numpy as np

from retrieval import cli
from retrieval.data import files, layout, provenance, sources
from retrieval.data.formats import InputError
from retrieval.evaluation.records import is_fitted_on_queries
from retrieval.search import whitening
from retrieval.search.embeddings import check_unit_rows

log = logging.getLogger(__name__)


def run(
    data_dir: Path,
    database: str = layout.DATABASE.name,
    queries: str = layout.TEST_DATABASE.name,
    output_database: str = layout.DATABASE_TRANSFORMED.name,
    output_queries: str = layout.TEST_DATABASE_TRANSFORMED.name,
    dim: int = 0,
    power: float = 0.5,
    shrinkage: float = 0.0,
    center: whitening.Center = "joint",
) -> Path:
    """Write the transformed embeddings, and return the path of the database's.

    Args:
        data_dir: The data directory.
        database: Name of the database's embeddings.
        queries: Name of the queries' embeddings; the file may be missing unless ``center`` needs
            it.
        output_database: Name of the transformed database; the transform is named after it.
        output_queries: Name of the transformed queries.
        dim: Dimensions to keep; 0 keeps all.
        power: Strength of the whitening, from 0 (rotation only) to 1 (equal variances).
        shrinkage: How much each variance is drawn towards their mean before that, from 0 to 1.
        center: Subtract nothing, the database's mean from both, or from each its own mean.
    """
    options = {name: value for name, value in locals().items() if name != "data_dir"}
    if not 0 <= power <= 1 or dim < 0:
        raise InputError(f"--power must be from 0 to 1 and --dim at least 0; got {power} and {dim}")
    if not 0 <= shrinkage <= 1:
        raise InputError(f"--shrinkage must be from 0 to 1; got {shrinkage}")
    if len({database, queries, output_database, output_queries}) < 4:
        raise InputError("the files read and written must have four different names")
    for output in (output_database, output_queries):
        layout.DATABASE_TRANSFORMED.target(data_dir, output)
        provenance.record_target(data_dir, output)
    names = [database]
    takes_queries = center == "per_domain"
    if takes_queries or layout.TEST_DATABASE.at(data_dir, queries).exists():
        names.append(queries)
    sources.warn_stale(data_dir, *names)
    domains = [layout.DATABASE.load(data_dir, name) for name in names]
    records = {name: provenance.load_record(data_dir, name) or {} for name in names}
    if len(names) > 1:
        provenance.check_same_model(data_dir, records)
    if domains[0].shape[1] != domains[-1].shape[1] or not all(map(len, domains)):
        raise InputError(f"{database} and {queries} must have rows, of equal length")
    for name, rows in zip(names, domains, strict=True):
        check_unit_rows(rows, name, data_dir)
    transform = whitening.fit_transform(
        domains[0],
        domains[1] if len(domains) > 1 else None,
        dim=dim,
        power=power,
        shrinkage=shrinkage,
        center=center,
    )
    stem = Path(output_database).with_suffix("").as_posix()
    layout.TRANSFORM_MEANS.save(data_dir, transform.means, f"{stem}.means.npy")
    layout.TRANSFORM_MATRIX.save(data_dir, transform.matrix, f"{stem}.matrix.npy")
    digest = hashlib.sha256(transform.means.tobytes() + transform.matrix.tobytes()).hexdigest()
    origins = sources.states(data_dir, *names)
    more = {"transform": options, "transform_sha256": digest}
    outputs = (output_database, output_queries)
    for domain, (name, output) in enumerate(zip(names, outputs, strict=False)):
        _write(data_dir, transform, domain, domains[domain], output)
        record = records[name] | {"dim": transform.matrix.shape[1]}
        # Later transforms do not undo that an earlier one was fitted on queries.
        is_fitted = takes_queries or is_fitted_on_queries(record)
        record |= {"from": name, "fitted_on_queries": is_fitted, **more}
        record |= {"sources": origins, sources.PHOTOS: None}
        provenance.save_record(data_dir, output, record)
        log.info("%s: %d dimensions", output, transform.matrix.shape[1])
    return layout.DATABASE_TRANSFORMED.at(data_dir, output_database)


def _write(
    data_dir: Path, transform: whitening.Transform, domain: int, rows: np.ndarray, output: str
) -> None:
    path = layout.DATABASE_TRANSFORMED.target(data_dir, output)
    shape = (len(rows), transform.matrix.shape[1])
    with files.row_writer(path, shape, layout.DATABASE_TRANSFORMED.dtype) as writer:
        for start, block in transform.blocks(rows, domain):
            writer.write(start, block)


def make_parser() -> argparse.ArgumentParser:
    parser = cli.stage_parser(run, __doc__)
    add: Any = parser.add_argument
    add("--database", help="name of the database's embeddings")
    add("--queries", help="name of the queries' embeddings")
    add("--output_database", help="name of the transformed database")
    add("--output_queries", help="name of the transformed queries")
    add("--dim", type=int, help="dimensions to keep; 0: all")
    add("--power", type=float, help="whitening, 0 (rotation only) to 1 (equal variances)")
    add("--shrinkage", type=float, help="shrinkage of the variances, 0 (none) to 1")
    add("--center", choices=get_args(whitening.Center), help="mean to subtract: joint or per file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
