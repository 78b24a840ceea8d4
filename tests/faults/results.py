"""Verdicts on cases, and the table of them."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Result:
    """The verdict on one case.

    Attributes:
        case: Its kind and number, as ``--case`` takes it.
        stage: The stage.
        verdict: ``refused``, ``unharmed``, ``other content``, ``skipped`` or ``violation``.
        what: What was done to it.
        why: The broken promise, or why the case was skipped.
        log: The messages of the stage.
    """

    case: str
    stage: str
    verdict: str
    what: str
    why: str = ""
    log: str = ""

    @property
    def kind(self) -> str:
        return self.case.partition(":")[0].partition("/")[0]


def generator(seed: int, kind: str, number: int) -> np.random.Generator:
    """Return the generator of one case, whichever process runs it."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), number])


VERDICTS = ("refused", "unharmed", "other content", "violation")


def table(results: Sequence[Result], by: str) -> str:
    """Return counts of verdicts as Markdown, a row for each ``by``: ``stage`` or ``kind``."""
    groups: dict[str, Counter[str]] = {}
    for result in results:
        groups.setdefault(getattr(result, by), Counter())[result.verdict] += 1
    heads = [by, "cases", "refused, one line", "unharmed", "valid, other content", "violations"]
    rows = [heads, ["---", *["---:"] * 5]]
    for name, counts in groups.items():
        done = sum(counts[verdict] for verdict in VERDICTS)
        rows.append([name, f"{done:,}", *(f"{counts[verdict]:,}" for verdict in VERDICTS)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
