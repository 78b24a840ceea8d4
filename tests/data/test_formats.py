"""The files of the data directory are checked when they are read and written."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retrieval.data.command_lines import Maker
from retrieval.data.formats import Array, InputError, Json, Table

ARRAY = Array("a.npy", Maker("python make_a.py"), "", "int64", ("n", 2))
TABLE = Table("t.csv", Maker("python make_t.py"), "", {"Path": "str", "Index": "int64"})
JSON = Json("j.json", Maker("python make_j.py"), "", dict[str, list[int]])


def test_round_trips(tmp_path: Path) -> None:
    ARRAY.save(tmp_path, np.array([[1, 2]]))
    np.testing.assert_array_equal(ARRAY.load(tmp_path), [[1, 2]])
    table = pd.DataFrame({"Path": ["ä,b"], "Index": [0]})
    TABLE.save(tmp_path, table)
    pd.testing.assert_frame_equal(TABLE.load(tmp_path), table)
    JSON.save(tmp_path, {"a": [1]}, "other.json")
    assert JSON.load(tmp_path, "other.json") == {"a": [1]}


@pytest.mark.parametrize("file", [ARRAY, TABLE, JSON])
def test_a_missing_file_names_its_command(tmp_path: Path, file: Array) -> None:
    with pytest.raises(InputError, match=r"missing; make it with: python make_"):
        file.load(tmp_path)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3), np.int64), np.zeros(2, np.int64), np.zeros((2, 2), np.float32)]
)
def test_another_shape_or_dtype_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"not int64 \(n, 2\)"):
        ARRAY.save(tmp_path, array)
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=r"not int64 \(n, 2\)"):
        ARRAY.load(tmp_path)


def test_truncated_pickled_and_foreign_arrays_are_refused(tmp_path: Path) -> None:
    path = ARRAY.save(tmp_path, np.zeros((100, 2), np.int64))
    whole = path.read_bytes()
    for content in (whole[:-8], whole[:60], whole[:4], b"", b"PNG or so"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"not a complete \.npy file"):
            ARRAY.load(tmp_path)
    np.save(path, np.array([{"a": 1}, None]), allow_pickle=True)
    with pytest.raises(InputError, match=r"not a complete \.npy file"):
        ARRAY.load(tmp_path)


def test_a_table_names_the_column_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Path\na.jpg\n")
    with pytest.raises(InputError, match="no column Index"):
        TABLE.load(tmp_path)
    path.write_text("Path,Index\na.jpg,0\nb.jpg,one\n")
    with pytest.raises(InputError, match="line 3 .*, column Index: one is not a whole number"):
        TABLE.load(tmp_path)
    path.write_text("")
    with pytest.raises(InputError, match="not a csv file"):
        TABLE.load(tmp_path)


def test_broken_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j.json").write_text('{"a": ')
    with pytest.raises(InputError, match="not valid JSON"):
        JSON.load(tmp_path)
