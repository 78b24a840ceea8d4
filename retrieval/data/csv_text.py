"""The text of csv files: encoding and separator as the file has them, and messages with lines.

Spreadsheets save csv files with commas, semicolons or tabs, as UTF-8 or UTF-16. All of these are
read. Other encodings cannot be told apart, and are refused with the line.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.data.input_error import InputError

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
MISSING = ["", "NA", "nan", "NaN"]


@dataclass(frozen=True)
class CsvText:
    """A csv file.

    Attributes:
        path: The file.
        encoding: As Python names it.
        separator: Of the cells.
    """

    path: Path
    encoding: str
    separator: str

    @classmethod
    def of_file(cls, path: Path) -> "CsvText":
        """Find out encoding and separator, from the first line.

        Raises:
            InputError: The file is empty, or its first line is no text.
        """
        with path.open("rb") as file:
            begin = file.read(1 << 12)
        encoding = "utf-16" if begin.startswith(_UTF16_MARKS) else "utf-8-sig"
        if encoding != "utf-16" and b"\0" in begin:
            raise InputError(f"{path} is not a csv file: line 1 is not text; save it as UTF-8")
        try:
            with path.open(encoding=encoding, newline="") as file:
                head = file.readline(1 << 16)
        except UnicodeError:
            raise _not_text(path, encoding) from None
        if not head.strip():
            raise InputError(
                f"{path} is not a csv file: its first line, with the columns, is empty"
            )
        return cls(path, encoding, max(SEPARATORS, key=head.count))

    def __str__(self) -> str:
        """Return the file and how it is read, for messages."""
        return f"{self.path} ({self._form})"

    def at(self, line: int) -> str:
        """Return a line of the file, and how it is read, for messages."""
        return f"{self.path}, line {line} ({self._form})"

    @property
    def _form(self) -> str:
        encoding = "UTF-16" if self.encoding == "utf-16" else "UTF-8"
        return f"read as {encoding} with {SEPARATORS[self.separator]}"

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the cells of each row with the line that it ends in; empty lines are left out.

        Raises:
            InputError: The text cannot be decoded, or a quoted cell does not end.
        """
        try:
            with self.path.open(encoding=self.encoding, newline="") as file:
                reader = csv.reader(file, delimiter=self.separator, strict=True)
                for cells in reader:
                    if cells:
                        yield reader.line_num, cells
        except UnicodeError:
            raise _not_text(self.path, self.encoding) from None
        except csv.Error as error:
            raise InputError(f"{self.at(reader.line_num)}: {error}") from None

    def columns(self) -> list[str]:
        """Return the names in the first line."""
        _, names = next(self.rows())
        return [name.strip() for name in names]

    def records(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield each row below the first as column -> text, and its line; missing cells are empty.

        Raises:
            InputError: A row has more cells than there are columns.
        """
        columns = self.columns()
        for line, cells in islice(self.rows(), 1, None):
            if len(cells) > len(columns):
                raise self._long_row(line, len(columns), len(cells))
            yield line, dict(zip_longest(columns, cells, fillvalue=""))

    def line(self, row: int) -> int:
        """Return the line of a row, counted from 0 below the columns."""
        lines = [line for line, _ in self.rows()]
        return lines[row + 1]

    def frame(self, texts: frozenset[str]) -> "pd.DataFrame":
        """Return the table; columns of ``texts`` are text, cells of others may be missing.

        Raises:
            InputError: It is no csv file.
        """
        import pandas as pd

        _, raw = next(self.rows())
        columns = {name: name.strip() for name in raw}
        is_text = {name: column in texts for name, column in columns.items()}
        try:
            # Only cells of numbers can be missing: NA, null and 007 are names of classes.
            table = pd.read_csv(
                self.path,
                dtype={name: "str" for name in raw if is_text[name]},
                keep_default_na=False,
                na_values={
                    name: MISSING for name, column in columns.items() if column not in texts
                },
                encoding=self.encoding,
                sep=self.separator,
            )
        except UnicodeError:
            raise _not_text(self.path, self.encoding) from None
        except pd.errors.ParserError as error:
            counts = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
            if counts:
                n_column, line, n_cell = map(int, counts.groups())
                raise self._long_row(line, n_column, n_cell) from None
            raise InputError(f"{self} is not a csv file: {error}") from error
        except (ValueError, pd.errors.EmptyDataError) as error:
            raise InputError(f"{self} is not a csv file: {error}") from error
        if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first column as an index
            raise self._long_row(self.line(0), len(raw), len(raw) + table.index.nlevels)
        table = table.rename(columns=columns)
        for column in texts & set(table.columns):
            table[column] = table[column].fillna("")  # of rows with fewer cells
        return table

    def _long_row(self, line: int, n_column: int, n_cell: int) -> InputError:
        return InputError(
            f"{self.at(line)} has {n_cell} cells, but there are {n_column} columns; put cells that "
            "hold a separator in quotes"
        )


def _not_text(path: Path, encoding: str) -> InputError:
    """Return the error of the first byte that is not of the encoding."""
    content = path.read_bytes()
    try:
        content.decode(encoding)
        line, byte = 1, 0
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        line = content[:start].decode(encoding, "replace").count("\n") + 1
        byte = content[start] if start < len(content) else 0
    name = "UTF-16" if encoding == "utf-16" else "UTF-8"
    return InputError(
        f"{path}, line {line}: byte 0x{byte:02x} is not {name}; save it as UTF-8 (from Latin-1: "
        f"iconv -f LATIN1 -t UTF-8 {path.name} > new.csv)"
    )
