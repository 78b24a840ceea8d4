"""The evaluations a report tells of, with their rankings where these are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.evaluation import evaluate, metrics
from retrieval.evaluation.query_gallery import QueryGallery, load_task
from retrieval.evaluation.ranking import Refinement, finder
from retrieval.evaluation.ranks import relevant_ranks
from retrieval.report import ranking_view
from retrieval.report.ranking_view import Ranking

TASK_OPTIONS = ("is_valid", "to_test", "test_matrix", "database")
TOLERANCE = 1e-4  # by which a metric may differ when it is computed on another device


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        name: As in ``evaluations/<name>.json``.
        record: What was kept of it.
        ranking: Its first k results; None where they are not known.
        relevant_ranks: Of each query, the ranks of all relevant images; None where the whole
            ranking is not known.
        note: Why something is not known.
    """

    name: str
    record: dict[str, Any]
    ranking: Ranking | None = None
    relevant_ranks: list[np.ndarray] | None = None
    note: str = ""

    @property
    def k(self) -> int:
        return int(self.record["k"])

    def cmc(self, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Return k from 1 on and cmc@k, up to ``depth`` or as far as the ranking is known."""
        assert self.ranking is not None
        if self.relevant_ranks is None:
            found = np.maximum.accumulate(self.ranking.hits, axis=1)[:, :depth]
            return np.arange(1, found.shape[1] + 1), found.mean(axis=0)
        first = np.sort([ranks[0] for ranks in self.relevant_ranks])
        depths = np.arange(1, min(depth, int(self.record["n_gallery"])) + 1)
        return depths, np.searchsorted(first, depths, side="right") / len(first)

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return 101 levels of recall and the mean precision at each; None where not known.

        A query's precision at a level is the highest at that recall or a higher one (Manning et
        al., Introduction to Information Retrieval, 2008, section 8.4).
        """
        if self.relevant_ranks is None:
            return None
        levels = np.linspace(0, 1, 101)
        total = np.zeros_like(levels)
        for ranks in self.relevant_ranks:
            found = np.arange(1, len(ranks) + 1)
            best = np.maximum.accumulate((found / ranks)[::-1])[::-1]
            # Hit number ceil(level * R) is the first to reach the level; at 0, the first of all.
            hit = np.ceil(levels * len(ranks) - 1e-9).astype(int)
            total += best[np.maximum(hit - 1, 0)]
        return levels, total / len(self.relevant_ranks)


def load_runs(
    data_dir: Path, names: Sequence[str] | None, device: torch.device, batch_size: int = 1024
) -> list[Run]:
    """Return the evaluations asked for, in the order of their names, the validation first.

    The last search left its neighbors; exact searches are done again. A ranking is shown only
    where it gives the metrics that were recorded.

    Args:
        data_dir: The data directory.
        names: Such as ``mips-test``; None for all.
        device: Where to search.
        batch_size: Queries scored at once.
    """
    records = {_name(record): record for record in evaluate.load_all(data_dir)}
    missing = [name for name in names or () if name not in records]
    if missing:
        raise InputError(
            f"--runs: no evaluation is called {', '.join(missing)}; there are: {', '.join(records)}"
        )
    chosen = [name for name in records if names is None or name in names]
    chosen.sort(key=lambda name: records[name]["queries"] != "valid")
    return [_load(data_dir, name, records[name], device, batch_size) for name in chosen]


def _name(record: dict[str, Any]) -> str:
    return Path(evaluate.evaluation_name(record["search"], record["queries"])).stem


def _load(
    data_dir: Path, name: str, record: dict[str, Any], device: torch.device, batch_size: int
) -> Run:
    is_last = _is_last(data_dir, record)
    # Of reciprocal re-ranking, only the first results are in order.
    is_exact = record["stage"] == "mips" and not record["options"].get("rerank_kr")
    if not is_last and not is_exact:
        return Run(name, record, note="the ranking is not kept: only the last search's is")
    try:
        task = _searched(data_dir, record["options"], device, batch_size) if is_exact else None
        if is_last:
            ranking = ranking_view.load_ranking(data_dir)
        else:
            assert task is not None
            find = finder(task, batch_size, device)
            found = find(task.queries, int(record["k"]))
            ranking = ranking_view.with_images(data_dir, task, *found, record["options"])
        if not _agrees(ranking, record):
            raise InputError("it does not give its metrics: other files are there now")
    except InputError as error:
        return Run(name, record, note=f"the ranking cannot be shown: {error}")
    if task is None:
        return Run(name, record, ranking, note="no curve of precision: known up to k only")
    ranks = relevant_ranks(
        task.queries,
        task.query_labels,
        task.gallery,
        task.gallery_labels,
        is_allowed=task.is_allowed,
        batch_size=batch_size,
        device=device,
    )
    whole = float(metrics.average_precision(ranks).mean())
    if abs(whole - record["map"]) > TOLERANCE:
        note = "no curve of precision: searching again does not give its map"
        return Run(name, record, ranking, note=note)
    return Run(name, record, ranking, ranks)


def _searched(
    data_dir: Path, options: dict[str, Any], device: torch.device, batch_size: int
) -> QueryGallery:
    """Return what an exact search looked in, with the queries and images as it moved them."""
    named: dict[str, Any] = {name: options.get(name) for name in TASK_OPTIONS}
    task = load_task(data_dir, **named)
    refinement = Refinement.of(options)
    task = refinement.with_gallery(task, device)
    return refinement.with_queries(task, finder(task, batch_size, device))


def _is_last(data_dir: Path, record: dict[str, Any]) -> bool:
    """Return whether the neighbors on the disk are those of an evaluation."""
    if not layout.METRICS.at(data_dir).exists():
        return False
    last = layout.METRICS.load(data_dir)
    return all(last.get(key) == record[key] for key in ("search", "queries", "options"))


def _agrees(ranking: Ranking, record: dict[str, Any]) -> bool:
    """Return whether a ranking gives the metrics that were recorded."""
    k, n_relevant = int(record["k"]), ranking.task.n_relevant
    if len(ranking.ids) != record["n_query"]:
        return False
    found = metrics.average_precision_at_k(ranking.hits, n_relevant, k).mean()
    first = metrics.cmc_at_k(ranking.hits, 1).mean()
    return max(abs(found - record["map@k"]), abs(first - record["cmc@1"])) <= TOLERANCE
