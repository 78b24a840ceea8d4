"""Damages of .csv, .json, .txt and .mat files."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.damage import damages

CELLS = [
    "", "NA", "nan", "null", "None", "0", "-1", "007", "1e5", "1e999", "inf", "-inf", "1.5", "x",
    "True", "99999999999999999999999", "-9223372036854775809", "x" * 100_000, "é\u202e\U0001f697",
    "a\nb", "../../../etc/passwd", "/etc/passwd", "\x00", "a\x00b", ".", "..", "~", "a/b/c", "'",
    '"', ",", "=1+1", "<script>alert(1)</script>", "{{7*7}}", "%s%n", " 3 ", "0x10", "1_000", "٣",
    "NaT", "2147483648",
]  # fmt: skip


def _choice(random: np.random.Generator, values: list[Any]) -> Any:
    return values[random.integers(0, len(values))]


def _rows(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


def _write_rows(path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8", errors="surrogatepass")


@damages("table", expect="any")
def _cell(path: Path, random: np.random.Generator) -> None:
    rows = _rows(path)
    row, column = random.integers(1, max(len(rows), 2)), random.integers(0, len(rows[0]))
    rows[min(row, len(rows) - 1)][column] = _choice(random, CELLS)
    _write_rows(path, rows)


@damages("table", expect="any")
def _whole_column(path: Path, random: np.random.Generator) -> None:
    rows = _rows(path)
    column, value = random.integers(0, len(rows[0])), _choice(random, CELLS[:17])
    for row in rows[1:]:
        row[column] = value
    _write_rows(path, rows)


@damages("table", expect="any")
def _columns(path: Path, random: np.random.Generator) -> None:
    rows = _rows(path)
    column = int(random.integers(0, len(rows[0])))
    change = random.integers(0, 4)
    for row in rows:
        if change == 0:
            del row[column]
        elif change == 1:
            row.insert(column, row[column])
        elif change == 2:
            row.reverse()
    if change == 3:
        rows[0][column] = _choice(random, CELLS)
    _write_rows(path, rows)


@damages("table", expect="any")
def _ragged(path: Path, random: np.random.Generator) -> None:
    rows = _rows(path)
    row = rows[random.integers(0, len(rows))]
    row[:] = _choice(random, [row[:1], [*row, "more"], row * 3, [], row[:-1]])
    _write_rows(path, rows)


@damages("table", expect="any")
def _no_rows(path: Path, random: np.random.Generator) -> None:
    _write_rows(path, _rows(path)[: random.integers(0, 2)])


@damages("table", "mat", "text", expect="any")
def _bytes(path: Path, random: np.random.Generator) -> None:
    """Put in bytes that are no UTF-8, NUL, or break the quotes."""
    data = bytearray(path.read_bytes())
    piece = _choice(
        random, [b"\xff\xfe", b"\x00", b'"', b"\r", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x1a"]
    )
    for _ in range(random.integers(1, 4)):
        first = int(random.integers(0, len(data) + 1)) if random.random() < 0.8 else 0
        data[first:first] = piece
    path.write_bytes(data)


@damages("table", "json", "mat", "text", expect="any")
def _other_encoding(path: Path, random: np.random.Generator) -> None:
    text = path.read_bytes().decode("latin1")
    path.write_bytes(text.encode(_choice(random, ["utf-16", "utf-32", "utf-8-sig", "utf-7"])))


@damages("table", "mat", "text", expect="any")
def _bits(path: Path, random: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(random.integers(1, 9)):
        data[random.integers(0, len(data))] ^= 1 << int(random.integers(0, 8))
    path.write_bytes(data)


VALUES = [
    None, True, 0, -1, 1.5, 10**30, -(10**30), "", "x", "x" * 100_000, [], {}, [[]], [None],
    {"": ""}, [1, "a"], "\x00", "../../../etc/passwd", "/etc/passwd", "\ud800", float("nan"),
    float("inf"), 1e308, [10**30], 10**5000, {"a": {"b": 1}}, "<script>", [[1, 2], [3]], "1",
    2**63, -(2**63) - 1, [0.5], ["0"],
]  # fmt: skip


def _dump(path: Path, value: object) -> None:
    import sys

    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    path.write_text(json.dumps(value))
    sys.set_int_max_str_digits(before)


@damages("json", expect="refuse")
def _other_top(path: Path, random: np.random.Generator) -> None:
    _dump(path, _choice(random, [value for value in VALUES if value != {}]))


@damages("json", expect="refuse")
def _not_json(path: Path, random: np.random.Generator) -> None:
    texts = [
        "{",
        "]",
        "{'a': 1}",
        "nul",
        '{"a": 1,}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 5000,
        '"',
    ]
    texts += [
        "[" * 900 + "]" * 900,
        '{"a":' * 3000 + "1" + "}" * 3000,
        "NaN",
        "\ufeff{}",
        '"\\ud800"',
        "-",
    ]
    path.write_text(_choice(random, texts), encoding="utf-8")


@damages("json", expect="any")
def _value(path: Path, random: np.random.Generator) -> None:
    """Replace one value, at any depth, by one of another type or size; or remove it."""
    content = json.loads(path.read_text())
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in items:
            places.append((node, key))
            if isinstance(child, dict | list):
                walk(child)

    walk(content)
    if places:
        # As often near the top as deep below, where most values are.
        top = [place for place in places if place[0] is content]
        node, key = _choice(random, top if random.random() < 0.6 else places)
        if random.random() < 0.15:
            del node[key]
        else:
            node[key] = _choice(random, VALUES)
    _dump(path, content)


@damages("json", expect="any")
def _key(path: Path, random: np.random.Generator) -> None:
    content = json.loads(path.read_text())
    if isinstance(content, dict) and content:
        key = _choice(random, list(content))
        content[
            _choice(random, ["", "x", "-1", "1.5", "007", "NA", "9" * 400, "é", "1 ", "1e3"])
        ] = content.pop(key)
    _dump(path, content)
