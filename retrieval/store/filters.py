"""Filters on rows, and their translation to the query languages of the stores."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields

from retrieval.store.rows import Metadata

COLUMNS = {"labels": "label", "makes": "make", "models": "model", "years": "year"}
COLUMNS |= {"viewpoints": "viewpoint", "sha256s": "sha256"}  # field of a filter -> column


@dataclass(frozen=True)
class Filter:
    """Rows whose values are among those named; an empty set allows all.

    Attributes:
        labels: Classes (model ids).
        makes: Names of makes, as the store has them.
        models: Names of models.
        years: Years, as text.
        viewpoints: Names of viewpoints.
        sha256s: Hashes of image files.
    """

    labels: frozenset[int] = frozenset()
    makes: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    years: frozenset[str] = frozenset()
    viewpoints: frozenset[str] = frozenset()
    sha256s: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.conditions())

    def conditions(self) -> dict[str, frozenset[int] | frozenset[str]]:
        """Return the allowed values of each column that has a condition."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {COLUMNS[name]: allowed for name, allowed in values.items() if allowed}

    def matching(self, facets: Iterable[Metadata]) -> set[Metadata]:
        """Return the metadata that fit a filter without hashes."""
        conditions = self.conditions().items()
        return {
            facet
            for facet in facets
            if all(getattr(facet, column) in allowed for column, allowed in conditions)
        }

    def sql(self) -> str | None:
        """Return the condition in SQL, as Lance reads it; None if it allows all.

        >>> Filter(makes=frozenset({"d'Or"}), labels=frozenset({2, 1})).sql()
        "label IN (1, 2) AND make IN ('d''Or')"
        """
        parts = [
            f"{column} IN ({', '.join(sorted(map(_sql_value, allowed)))})"
            for column, allowed in self.conditions().items()
        ]
        return " AND ".join(parts) or None

    def expression(self) -> str:
        """Return the condition in the language of Milvus; empty if it allows all.

        >>> Filter(makes=frozenset({'"A"'})).expression()
        'make in ["\\\\"A\\\\""]'
        """
        parts = [
            f"{column} in [{', '.join(sorted(map(_milvus_value, allowed)))}]"
            for column, allowed in self.conditions().items()
        ]
        return " and ".join(parts)


def ids_sql(ids: Iterable[int]) -> str:
    """Return the condition of some ids in SQL."""
    return f"id IN ({', '.join(str(int(number)) for number in ids)})"


def ids_expression(ids: Iterable[int]) -> str:
    """Return the condition of some ids in the language of Milvus."""
    return f"id in [{', '.join(str(int(number)) for number in ids)}]"


def _sql_value(value: int | str) -> str:
    # In SQL, a quote is the only character of a text that needs care.
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(int(value))


def _milvus_value(value: int | str) -> str:
    # Milvus reads the escapes of JSON.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(int(value))
