"""States of files, and records that nobody can trust."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from retrieval.data import sources

CSV = "Path,Class,Index\na.jpg,3,0\nb.jpg,4,1\n"


def test_only_the_columns_that_matter_count(tmp_path: Path) -> None:
    path, columns = tmp_path / "list.csv", ("Index", "Path")
    path.write_text(CSV)
    before, whole = sources.state_of(path, columns), sources.state_of(path)
    path.write_text("Index,Path,Class\n1,b.jpg,4\n0,a.jpg,9\n")  # the same list, other classes
    assert sources.state_of(path, columns) == before and sources.state_of(path) != whole
    path.write_text(CSV.replace("b.jpg", "c.jpg"))
    assert sources.state_of(path, columns) != before
    path.write_text("Path,Class\na.jpg,3\n")  # a column is missing
    assert sources.state_of(path, columns) == sources.state_of(path)


def test_a_folder_is_the_names_of_its_photos(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/1.jpg", "a/notes.txt", "2.png"):
        (tmp_path / name).write_bytes(b"")
    before = sources.state_of(tmp_path)
    (tmp_path / "a" / "notes.txt").unlink()
    assert sources.state_of(tmp_path) == before
    (tmp_path / "a" / "1.jpg").rename(tmp_path / "a" / "3.jpg")
    assert sources.state_of(tmp_path) != before


def test_what_is_gone_counts_as_unchanged_unless_a_training_moved_it(tmp_path: Path) -> None:
    model = tmp_path / "para" / "model.ep0"
    model.parent.mkdir()
    model.write_bytes(b"weights")
    record = {"sources": sources.states(tmp_path, "para/model.ep0")}
    assert sources.changed_sources(tmp_path, record) == []
    model.unlink()
    assert sources.changed_sources(tmp_path, record) == []
    (tmp_path / "para" / "earlier-1").mkdir()
    (tmp_path / "para" / "earlier-1" / "model.ep0").write_bytes(b"weights")
    assert sources.changed_sources(tmp_path, record) == ["para/model.ep0"]


def test_one_line_for_a_chain_the_first_command_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.npy", "b.npy", "c.npy"):
        np.save(tmp_path / name, np.zeros(3))
    for name, source in (("b.npy", "a.npy"), ("c.npy", "b.npy")):
        record = {"sources": sources.states(tmp_path, source), "made_by": "python x.py"}
        record |= {"options": {"output": name, "size": None}}
        (tmp_path / name).with_suffix(".json").write_text(json.dumps(record))
    assert sources.warn_stale(tmp_path, "c.npy") == []
    np.save(tmp_path / "a.npy", np.ones(3))
    assert sources.warn_stale(tmp_path, "c.npy", "b.npy") == ["b.npy"]
    commands = [f"python x.py --dpath={tmp_path} --output={name}" for name in ("b.npy", "c.npy")]
    assert sources.commands_to_renew(tmp_path, "c.npy") == " && ".join(commands)
    assert [entry.getMessage() for entry in caplog.records] == [
        f"b.npy is older than a.npy; to renew, type: {' && '.join(commands)}"
    ]


@pytest.mark.parametrize(
    "record",
    [
        "[]",
        "{",
        "[" * 100_000,
        '{"sources": 3}',
        '{"sources": {"": "x", "/dev/zero": "x", "..": "Path: x", "a.npy": "x"}}',
        '{"sources": {"a.npy": "x"}, "transform": 3}',
        '{"sources": {"a.npy": "x"}, "made_by": {"a": 1}, "options": []}',
        '{"sources": {"b.npy": "x"}, "checkpoint": 3, "images": "b.npy"}',
        '{"photos": {"sizes": "x"}, "preparation": {"index": "\\u0000", "image_root_path": "."}}',
    ],
)
def test_any_record_can_be_read(tmp_path: Path, record: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.save(tmp_path / "b.npy", np.zeros(3))
    (tmp_path / "b.json").write_text(record)
    sources.warn_stale(tmp_path, "b.npy", photos=True)
    sources.commands_to_renew(tmp_path, "b.npy")


def test_photos_of_another_size_are_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "list.csv").write_text(CSV)
    photos = [tmp_path / name for name in ("a.jpg", "b.jpg")]
    for photo in photos:
        photo.write_bytes(b"123")
    states = sources.photo_states(photos)
    record = {"index": "list.csv", "image_root_path": ".", "photos": states}
    os.utime(photos[0], (1, 1))
    assert not sources.photos_have_changed(tmp_path, record)  # a copy has another time
    assert sources.photo_states(photos) == states
    photos[1].write_bytes(b"1234")
    assert sources.photos_have_changed(tmp_path, record)
    photos[0].unlink()  # they say nothing where they are gone
    assert not sources.photos_have_changed(tmp_path, record)
