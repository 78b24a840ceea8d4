"""The evaluations of a report, with their rankings if these are known."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.data.options import declared_options
from retrieval.evaluation import metrics
from retrieval.evaluation.exact_search import ExactSearch
from retrieval.evaluation.inputs import load_query_gallery
from retrieval.evaluation.pipeline import RankingOptions, rank_gallery
from retrieval.evaluation.query_gallery import QueryGallery
from retrieval.evaluation.records import load_evaluation_records
from retrieval.evaluation.run import SELECTION
from retrieval.report.retrieval_results import RetrievalResults, load_last_results, with_images

log = logging.getLogger(__name__)

METRIC_TOLERANCE = 1e-4  # difference of a metric computed on another device


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        name: As in ``evaluations/<name>.json``.
        record: Its json.
        results: Its first k results; None if they are not known.
        relevant_ranks: For each query, the ranks of all relevant images; None if the whole
            ranking is not known.
        note: Why something is not known.
    """

    name: str
    record: dict[str, Any]
    results: RetrievalResults | None = None
    relevant_ranks: list[np.ndarray] | None = None
    note: str = ""

    @property
    def k(self) -> int:
        return int(self.record["k"])

    def cmc(self, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Return k from 1 on and cmc@k, up to ``depth`` or as far as the ranking is known."""
        assert self.results is not None
        if self.relevant_ranks is None:
            found = np.maximum.accumulate(self.results.hits, axis=1)[:, :depth]
            return np.arange(1, found.shape[1] + 1), found.mean(axis=0)
        first = np.sort([ranks[0] for ranks in self.relevant_ranks])
        depths = np.arange(1, min(depth, int(self.record["n_gallery"])) + 1)
        return depths, np.searchsorted(first, depths, side="right") / len(first)

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return 101 levels of recall and the mean precision at each; None if not known.

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
    data_dir: Path, names: Sequence[str] | None, device: str = "cpu", batch_size: int = 1024
) -> list[Run]:
    """Return the evaluations asked for, in the order of their names, the validation first.

    Exact searches are repeated; the last of the others left its neighbors. A ranking is shown only
    if it reproduces the recorded metrics.

    Args:
        data_dir: The data directory.
        names: Such as ``mips-test``; None takes all.
        device: Where to search: ``cpu``, ``cuda`` or ``cuda:n``.
        batch_size: Queries scored at once.
    """
    records = load_evaluation_records(data_dir)
    missing = [name for name in names or () if name not in records]
    if missing:
        raise InputError(
            f"--runs: no evaluation is called {', '.join(missing)}; there are: {', '.join(records)}"
        )
    chosen = [name for name in records if names is None or name in names]
    chosen.sort(key=lambda name: records[name]["queries"] != "valid")
    has_last = layout.METRICS.at(data_dir).exists()
    last = layout.METRICS.load(data_dir) if has_last else {}
    load = cache(partial(load_query_gallery, data_dir))
    search = ExactSearch(batch_size, device)

    def run_of(name: str) -> Run:
        record = records[name]
        # k-reciprocal re-ranking orders the first results only.
        if record["stage"] == "mips" and not record["options"]["rerank_kr"]:
            selection = {option: record["options"][option] for option in SELECTION}
            return _repeated(data_dir, name, record, partial(load, **selection), search)
        if all(last.get(key) == record[key] for key in ("search", "queries", "options")):
            return _last(data_dir, name, record, last)
        return Run(name, record, note="the ranking is not kept: only the last search's is")

    return [run_of(name) for name in chosen]


def _last(data_dir: Path, name: str, record: dict[str, Any], last: dict[str, Any]) -> Run:
    """Return the last evaluation with the neighbors that it left."""
    try:
        results = load_last_results(data_dir, last)
        _check_agreement(results, record)
    except InputError as error:
        return _not_shown(name, record, error)
    return Run(name, record, results, note="no precision curve: the ranking is known up to k only")


def _not_shown(name: str, record: dict[str, Any], error: InputError) -> Run:
    log.warning("%s: the ranking cannot be shown: %s", name, error)
    return Run(name, record, note=f"the ranking cannot be shown: {error}")


def _repeated(
    data_dir: Path,
    name: str,
    record: dict[str, Any],
    load: Callable[[], QueryGallery],
    search: ExactSearch,
) -> Run:
    """Return an exact evaluation with its ranking, searched again."""
    k, options = int(record["k"]), record["options"]
    ranking = RankingOptions(
        **{option: options[option] for option in declared_options(RankingOptions)}
    )
    try:
        ranked = rank_gallery(load(), k, ranking, search)
        query_gallery, found = ranked.query_gallery, (ranked.ids[:, :k], ranked.similarities[:, :k])
        results = with_images(data_dir, query_gallery, *found)
        _check_agreement(results, record)
    except InputError as error:
        return _not_shown(name, record, error)
    ranks = search.relevant_ranks(query_gallery)
    whole = float(metrics.average_precision(ranks).mean())
    if abs(whole - record["map"]) > METRIC_TOLERANCE:
        note = "no precision curve: searching again does not reproduce its map"
        return Run(name, record, results, note=note)
    return Run(name, record, results, ranks)


def _check_agreement(results: RetrievalResults, record: dict[str, Any]) -> None:
    """Refuse a ranking that does not reproduce the recorded metrics."""
    if len(results.ids) == record["n_query"]:
        found = float(results.precisions.mean()), metrics.cmc_at_k(results.hits, 1).mean()
        gaps = abs(found[0] - record["map@k"]), abs(found[1] - record["cmc@1"])
        if max(gaps) <= METRIC_TOLERANCE:
            return
    raise InputError("it does not reproduce the recorded metrics; the files have changed since")
