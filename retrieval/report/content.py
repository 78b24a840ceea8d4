"""The content of the report's page."""

from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data import layout, provenance
from retrieval.data.command_lines import search_command
from retrieval.evaluation.calibration import load_calibration
from retrieval.evaluation.metrics import DEFINITIONS
from retrieval.report import commands, confusion, figures, picture_rows, run_tables
from retrieval.report.runs import Run

CMC_DEPTH = 100  # the last k of the cmc curve
COMPARED = ("cmc@1", "map@R")  # the metrics whose intervals and differences are shown


def report_content(
    data_dir: Path, runs: list[Run], names: dict[int, str], rows: int, k: int
) -> dict[str, Any]:
    """Return the content of ``report.html`` without its title.

    Args:
        data_dir: The data directory.
        runs: The evaluations.
        names: Class -> name.
        rows: Best and worst queries to show of each run.
        k: Results to show of each query.
    """
    makes = confusion.load_makes(data_dir, names)
    metrics = run_tables.metric_names(runs)
    embeddings = _embeddings(runs)
    records = {name: provenance.load_record(data_dir, name) for name in embeddings}
    return {
        "runs": runs,
        "main": [name for name in run_tables.MAIN if name in metrics],
        "counts": run_tables.COUNTS,
        "cells": {name: run_tables.metric_cells(runs, name) for name in metrics},
        "definitions": run_tables.metric_definitions(runs),
        "macro_definition": DEFINITIONS["macro"],
        "has_intervals": any(run.record.get("intervals") for run in runs),
        "intervals": _intervals(runs),
        "compared": COMPARED,
        "gains": run_tables.gains(data_dir, runs, COMPARED),
        "calibration": _calibration(data_dir),
        "curves": _curves([run for run in runs if run.results is not None]),
        "details": [_detail(run, makes, rows, k) for run in runs if run.results is not None],
        "model_commands": commands.model_commands(data_dir, embeddings),
        # One command can make several evaluations.
        "search_commands": list(dict.fromkeys(search_command(run.record) for run in runs)),
        "notes": _grouped({run.name: run.note for run in runs}),
        "versions": _grouped({run.name: _versions(run) for run in runs}),
        "records": {name: record for name, record in records.items() if record},
    }


def _calibration(data_dir: Path) -> dict[str, Any] | None:
    """Return the measurements of ``calibration.json``, with plots; None if it does not fit."""
    name = layout.DATABASE.name
    if not layout.DATABASE_RECORD.at(data_dir, provenance.record_name(name)).exists():
        return None
    found = load_calibration(data_dir, name)
    if found is None:
        return None
    measured = found[1]
    bins = measured["levels"]["model"]["reliability"]
    predicted, observed, counts = (
        [of_bin[key] for of_bin in bins] for key in ("predicted", "observed", "count")
    )
    risks = {
        level: (np.array(of_level["risk_coverage"][0]), np.array(of_level["risk_coverage"][1]))
        for level, of_level in measured["levels"].items()
    }
    coverage = "share of the photos that are answered, the surest first"
    return measured | {
        "diagram": figures.reliability(predicted, observed, counts, "reliability"),
        "risk": figures.curves(risks, coverage, "share of wrong answers", "risk"),
    }


def _embeddings(runs: list[Run]) -> list[str]:
    """Return the names of the embeddings of the runs' queries and databases."""
    names = []
    for run in runs:
        if run.record["stage"] == "baselines":  # they search in pixels
            continue
        options = run.record["options"]
        database = options.get("database") or layout.DATABASE.name
        is_valid = run.record["queries"] == "valid"
        usual = database if is_valid else layout.TEST_DATABASE.name
        names += [database, options.get("test_matrix") or usual]
    return list(dict.fromkeys(names))


def _intervals(runs: list[Run]) -> list[str]:
    """Return a plot of the values and intervals of each metric that is compared."""
    if not any(run.record.get("intervals") for run in runs):
        return []
    plots = []
    for metric in COMPARED:
        cells = run_tables.metric_cells(runs, metric)
        values = {
            run.name: (cell.value, cell.interval)
            for run, cell in zip(runs, cells, strict=True)
            if cell.value is not None
        }
        name = f"intervals-{metric.replace('@', '-')}"
        plots.append(figures.intervals(values, f"{metric}, with its 95% interval", name))
    return plots


def _curves(runs: list[Run]) -> list[tuple[str, str]]:
    """Return (caption, svg) of each plot that compares runs."""
    plots = []
    precisions = {run.name: run.precision_recall() for run in runs}
    whole = {name: line for name, line in precisions.items() if line is not None}
    if whole:
        text = "Precision at each recall: a query's highest at that recall or beyond, its mean."
        plot = figures.curves(whole, "recall", "precision", "precision")
        plots.append((text, plot))
    if runs:
        text = "cmc@k: the share of queries with a relevant image among the first k."
        found = {run.name: run.cmc(CMC_DEPTH) for run in runs}
        plots.append((text, figures.curves(found, "k", "cmc@k", "cmc", steps=True)))
    return plots


def _detail(run: Run, makes: dict[int, str], rows: int, k: int) -> dict[str, Any]:
    """Return the content of a run's section; its ranking is known."""
    assert run.results is not None
    results = run.results
    labels, first = results.truth.query_labels, confusion.first_results(results)
    has_makes = len(set(makes.values())) > 1
    group = {label: makes.get(label, "?") if has_makes else results.name(label)
             for label in [*labels.tolist(), *first.tolist()]}  # fmt: skip
    of_queries, of_results = (
        np.array([group[label] for label in of_images.tolist()]) for of_images in (labels, first)
    )
    found = confusion.confuse(of_queries, of_results)
    heat_map = ""
    if len(found.names) > 1:
        heat_map = figures.heat_map(found.shares, found.names, found.counts, f"{run.name}-heat")
    values = results.precisions
    return {
        "run": run,
        "has_makes": bool(makes),
        "group": "make" if has_makes else "class",
        "histogram": figures.histogram(values, f"AP@{run.k}", f"{run.name}-ap"),
        "classes": run_tables.class_table(run, makes).to_dict("records"),
        "heat_map": heat_map,
        "pairs": confusion.worst_pairs(results).to_dict("records"),
        "rows": picture_rows.best_and_worst_rows(results, rows, k),
    }


def _versions(run: Run) -> str:
    """Return the run's versions and device as one line; empty if not recorded."""
    parts = [f"{name} {text}" for name, text in run.record.get("versions", {}).items()]
    device = run.record.get("device", "cpu")
    return ", ".join(parts + [f"on {device}"] * (device != "cpu"))


def _grouped(texts: dict[str, str]) -> dict[str, list[str]]:
    """Group names by text: text -> names; empty texts are left out."""
    groups: dict[str, list[str]] = {}
    for name, text in texts.items():
        if text:
            groups.setdefault(text, []).append(name)
    return groups
