"""Print all kept evaluations as one table.

Reads   evaluations/*.json
Writes  nothing

    python -m process_data.summary --dpath=~/ir/
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file
    sys.path[0] = str(Path(__file__).resolve().parents[1])

if __name__ == "__main__":  # before numpy is loaded
    from retrieval.threads import prepare_command

    prepare_command()

from retrieval import cli
from retrieval.evaluation.records import load_evaluation_records, warn_stale_evaluations
from retrieval.evaluation.tables import evaluation_table


def run(data_dir: Path) -> list[dict[str, Any]]:
    """Print and return the records of all evaluations: validation first, then by map@R."""
    found = load_evaluation_records(data_dir)
    warn_stale_evaluations(data_dir, found)
    records = list(found.values())
    records.sort(key=lambda record: (record["queries"] != "valid", -record["map@R"]))
    print(evaluation_table(records))
    return records


def make_parser() -> argparse.ArgumentParser:
    return cli.stage_parser(run, __doc__)


def main(argv: Sequence[str] | None = None) -> int:
    return cli.execute(run, make_parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
