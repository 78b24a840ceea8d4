"""csv files as spreadsheets save them, and messages that name the line."""

from pathlib import Path
from typing import Any

import pytest

from retrieval.data import layout
from retrieval.data.formats import InputError

LINES = ["Path,Class,Index,ClassName,Year,X1", "a.jpg,3,0,Citroën,2011,1.5", "b.jpg,4,1,007,,"]


def table(tmp_path: Path, content: bytes) -> list[dict[str, Any]]:
    (tmp_path / "indexinfo.csv").write_bytes(content)
    return layout.IMAGE_INDEX.load(tmp_path).fillna(0).to_dict("records")


def test_spreadsheets_save_it_their_way(tmp_path: Path) -> None:
    for encoding, separator, newline in (
        ("utf-8", ",", "\n"),
        ("utf-8-sig", ";", "\r\n"),
        ("utf-16", "\t", "\r\n"),
        ("utf-16-be", ";", "\n\n"),
    ):
        text = newline.join(LINES).replace(",", separator) + newline
        content = (("\ufeff" if encoding == "utf-16-be" else "") + text).encode(encoding)
        first, second = table(tmp_path, content)
        assert first == {
            "Path": "a.jpg",
            "Class": 3,
            "Index": 0,
            "ClassName": "Citroën",
            "Year": "2011",
            "X1": 1.5,
        }
        assert second["ClassName"] == "007" and second["Year"] == "" and second["X1"] == 0
        layout.CLASS_NAMES.at(tmp_path).write_bytes(content)
        names = [row["ClassName"] for row in layout.CLASS_NAMES.load_rows(tmp_path)]
        assert names == ["Citroën", "007"]


def test_whole_numbers_with_a_point_are_whole(tmp_path: Path) -> None:
    content = b"Path,Class,Index,ClassName\na,3.0,0.0,x\nb,4,1,y\n"
    rows = table(tmp_path, content)
    assert [(row["Class"], row["Index"]) for row in rows] == [(3, 0), (4, 1)]
    layout.CLASS_NAMES.at(tmp_path).write_bytes(content)
    assert [row["Class"] for row in layout.CLASS_NAMES.load_rows(tmp_path)] == [3, 4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n\na.jpg,3,0\nb.jpg,,1\n", "line 5 .*column Class: the cell is empty"),
        ("a.jpg,3,0\n\n\nb.jpg,two,1\n", "line 5 .*column Class: two is not a whole number"),
        ("a.jpg,3.5,0\n", r"line 2 .*column Class: 3\.5 is not a whole number"),
        ("a.jpg,1e99,0\n", "line 2 .*column Class: 1e.?99 is not a whole number"),
        ("a.jpg,True,0\n", "line 2 .*column Class: True is not a whole number"),
        ("a.jpg,nan,0\n", "line 2 .*column Class: the cell is empty"),
        ("a.jpg,3,0\nb.jpg,4\n", "line 3 .*column Index: the cell is empty"),
        ("a.jpg,3,0\nb,c.jpg,4,1\n", "line 3 .*has 4 cells, but there are 3 columns"),
        ("a,b.jpg,3,0\n", "line 2 .*has 4 cells, but there are 3 columns"),
        ('"a.jpg,3,0\nb.jpg,4,1\n', "is not a csv file"),
    ],
)
def test_the_line_is_named(tmp_path: Path, content: str, message: str) -> None:
    text = "Path,Class,Index\n" + content
    for separator, said in ((",", "UTF-8 with commas"), (";", "UTF-8 with semicolons")):
        with pytest.raises(InputError, match=message) as error:
            table(tmp_path, text.replace(",", separator).encode())
        assert said in str(error.value) and "nan" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Class,ClassName\n1,a\n\nx,b\n", "line 4 .*column Class: 'x' is not a whole number"),
        ("Class,ClassName\n1,a\n,b\n", "line 3 .*column Class: the cell is empty"),
        ("Class,ClassName\n1,a,b\n", "line 2 .*has 3 cells"),
        ('Class,ClassName\n1,"a\n', "line 2 .*unexpected end of data"),
        ("Class;ClassName\n1.5;a\n", "line 2 .*semicolons.*column Class: '1.5'"),
    ],
)
def test_the_line_is_named_without_pandas_too(tmp_path: Path, content: str, message: str) -> None:
    layout.CLASS_NAMES.at(tmp_path).write_text(content)
    with pytest.raises(InputError, match=message):
        layout.CLASS_NAMES.load_rows(tmp_path)


def test_other_encodings_are_named_with_a_remedy(tmp_path: Path) -> None:
    text = "Class,ClassName\n1,Audi\n2,Citroën\n"
    for content, words in (
        (
            text.encode("latin-1"),
            "line 3: byte 0xeb is not UTF-8; save it as UTF-8 ",
        ),
        ("ClassÄ\n".encode("latin-1"), "line 1: byte 0xc4 is not UTF-8"),
        (text.encode("utf-16-le"), "line 1 is not text"),
        (text.encode("utf-16")[:-1], "is not UTF-16"),
        (b"", "is empty"),
        (b"\n", "is empty"),
    ):
        layout.CLASS_NAMES.at(tmp_path).write_bytes(content)
        with pytest.raises(InputError, match=words):
            layout.CLASS_NAMES.load_rows(tmp_path)
        with pytest.raises(InputError, match=words):
            layout.CLASS_NAMES.load(tmp_path)
