"""The stage compcars.sample: what it writes, when it refuses, and that it repeats itself."""

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from compcars import sample
from retrieval.data import files
from retrieval.data.formats import InputError

SMALL = {
    "models": 9,
    "images": 3,
    "others": 2,
    "surveillance": 2,
    "width": 64,
    "height": 48,
    "workers": 1,
}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sample: the folder Image_data."""
    return sample.run(tmp_path_factory.mktemp("sample"), **SMALL)


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def lines(path: Path) -> list[str]:
    text = path.read_bytes().decode("utf-8")
    assert text.endswith("\n")
    assert "\r" not in text
    return text.splitlines()


def web_images(tree: Path) -> list[Path]:
    return sorted((tree / "data" / "image").rglob("*.jpg"))


def label_of(tree: Path, image: Path) -> tuple[int, list[int]]:
    """Return the viewpoint and the box of an image."""
    name = image.relative_to(tree / "data" / "image").with_suffix(".txt")
    viewpoint, n_box, box = lines(tree / "data" / "label" / name)
    assert n_box == "1"
    return int(viewpoint), [int(side) for side in box.split(" ")]


def test_equal_options_give_equal_bytes(tree: Path, tmp_path: Path) -> None:
    assert digests(sample.run(tmp_path, **SMALL)) == digests(tree)


def test_workers_make_no_difference(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compcars.sample_images.FEWEST_IN_PARALLEL", 0)
    root = sample.run(tmp_path, **{**SMALL, "workers": 2})
    assert digests(root) == digests(tree)


def test_another_seed_draws_other_images(tree: Path, tmp_path: Path) -> None:
    root = sample.run(tmp_path, **{**SMALL, "models": 3, "seed": 8})
    images = {digest for name, digest in digests(tree).items() if name.endswith(".jpg")}
    others = {digest for name, digest in digests(root).items() if name.endswith(".jpg")}
    assert not images & others


def test_more_images_leave_the_first_as_they_are(tree: Path, tmp_path: Path) -> None:
    options = {**SMALL, "images": 1, "others": 0, "surveillance": 3}
    more = digests(sample.run(tmp_path, **options))
    before = digests(tree)
    watched = [name for name in before if name.startswith("sv_data/image/")]
    assert watched
    assert all(more[name] == before[name] for name in watched)


def test_every_image_has_a_label_and_the_asked_size(tree: Path) -> None:
    images = web_images(tree)
    labels = sorted((tree / "data" / "label").rglob("*.txt"))
    assert len(images) == 9 * (3 + 2) + 3
    assert [path.stem for path in images] == [path.stem for path in labels]
    for path in images:
        assert re.fullmatch(r"[0-9a-f]{14}", path.stem)
        assert len(path.relative_to(tree / "data" / "image").parts) == 4
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 48))


def test_boxes_lie_inside_but_for_the_known_two(tree: Path) -> None:
    boxes = [label_of(tree, image)[1] for image in web_images(tree)]
    degenerate = [box for box in boxes if not (box[0] < box[2] and box[1] < box[3])]
    assert sorted(degenerate) == [[1, 1, 2, -15], [131, 1, 131, 1]]
    for x1, y1, x2, y2 in (box for box in boxes if box not in degenerate):
        assert 1 <= x1 < x2 <= 64
        assert 1 <= y1 < y2 <= 48


def test_front_images_are_as_many_as_asked(tree: Path) -> None:
    viewpoints: dict[str, list[int]] = {}
    for image in web_images(tree):
        viewpoints.setdefault(image.parts[-3], []).append(label_of(tree, image)[0])
    assert len(viewpoints) == 9
    for views in viewpoints.values():
        assert sum(view in (1, 4) for view in views) == 3
        assert sum(view in (2, 3, 5) for view in views) == 2
    assert sum(-1 in views for views in viewpoints.values()) == 3


def test_names_have_the_quirks_of_the_dataset(tree: Path) -> None:
    names = loadmat(tree / "data" / "misc" / "make_model_name.mat")
    makes, models = names["make_names"], names["model_names"]
    assert makes.shape[1] == models.shape[1] == 1
    used_makes = {int(image.parts[-4]) for image in web_images(tree)}
    used_models = {int(image.parts[-3]) for image in web_images(tree)}
    assert used_makes == {1, 3, 4}  # an id without images between them
    assert max(used_models) == len(models) > len(used_models)
    assert min(used_models) < 256 <= max(used_models)
    empty = {i + 1 for i in range(len(models)) if models[i, 0].size == 0}
    assert empty == set(range(1, len(models) + 1)) - used_models
    text = [str(models[i - 1, 0][0]) for i in sorted(used_models)]
    assert text[0] != text[0].rstrip()
    assert text[1] != text[1].lstrip()
    assert not text[2].isascii()
    assert makes[0, 0][0] == makes[3, 0][0]  # one name, two ids


def test_years_have_the_quirks_of_the_dataset(tree: Path) -> None:
    years = {image.parts[-2] for image in web_images(tree)}
    assert {"unknown", "5008"} < years
    assert all(re.fullmatch(r"20[01]\d", year) for year in years - {"unknown", "5008"})


def test_two_models_share_a_file_name(tree: Path) -> None:
    by_stem: dict[str, list[Path]] = {}
    for path in web_images(tree):
        by_stem.setdefault(path.stem, []).append(path)
    shared = [paths for paths in by_stem.values() if len(paths) > 1]
    assert len(shared) == 1
    (a, b) = shared[0]
    assert a.parts[-3] != b.parts[-3]
    assert a.read_bytes() != b.read_bytes()


def test_attributes_and_types(tree: Path) -> None:
    header, *rows = lines(tree / "data" / "misc" / "attributes.txt")
    assert header == "model_id maximum_speed displacement door_number seat_number type"
    types = loadmat(tree / "data" / "misc" / "car_type.mat")["types"]
    assert types.shape == (1, 12)
    assert types[0, 11][0] == "convertible"
    assert len(rows) == 9
    kinds = [int(row.split(" ")[5]) for row in rows]
    assert min(kinds) == 0
    assert max(kinds) <= 12


def test_classification_lists_name_images(tree: Path) -> None:
    folder = tree / "data" / "train_test_split" / "classification"
    train, test = lines(folder / "train.txt"), lines(folder / "test.txt")
    assert train
    assert test
    assert not set(train) & set(test)
    assert all((tree / "data" / "image" / name).is_file() for name in train + test)


def test_surveillance_tree(tree: Path) -> None:
    sv_data = tree / "sv_data"
    folder = sv_data / "image"
    images = [path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")]
    train = lines(sv_data / "train_surveillance.txt")
    test = lines(sv_data / "test_surveillance.txt")
    assert sorted(train + test) == sorted(images)
    assert not set(train) & set(test)
    assert {name.split("/")[0] for name in train} == {name.split("/")[0] for name in test}
    ids = [int(name.split("/")[0]) for name in train]
    assert ids == sorted(ids)
    colors = loadmat(sv_data / "color_list.mat")["color_list"]
    assert sorted(str(row[0][0]) for row in colors) == sorted(images)
    codes = {int(row[1][0, 0]) for row in colors}
    assert codes <= set(range(-1, 10))
    assert -1 in codes


def test_surveillance_ids_lead_to_web_ids(tree: Path) -> None:
    table = loadmat(tree / "sv_data" / "sv_make_model_name.mat")["sv_make_model_name"]
    folders = {int(path.name) for path in (tree / "sv_data" / "image").iterdir()}
    assert folders == set(range(1, len(table) + 1))
    assert table.shape == (8, 3)  # all models but one
    web = {int(path.parts[-3]) for path in web_images(tree)}
    ids = [int(row[2][0, 0]) for row in table]
    assert len(set(ids)) == 8
    assert set(ids) < web
    assert {row[2].dtype for row in table} == {np.dtype("uint8"), np.dtype("uint16")}
    names = loadmat(tree / "data" / "misc" / "make_model_name.mat")["model_names"]
    differ = [row[1][0] for row in table if row[1][0] != names[int(row[2][0, 0]) - 1, 0][0]]
    assert [name[-1] for name in differ] == ["’"]


def test_second_run_leaves_the_sample_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = {**SMALL, "models": 2, "images": 1, "others": 0, "surveillance": 1}
    root = sample.run(tmp_path, **options)
    stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert sample.run(tmp_path, **options) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == stamps
    with pytest.raises(InputError, match="other options"):
        sample.run(tmp_path, **{**options, "seed": 1})
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == stamps


def test_a_foreign_tree_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "Image_data" / "data" / "precious.jpg"
    precious.parent.mkdir(parents=True)
    precious.write_text("a photo")
    with pytest.raises(InputError, match="is not a sample"):
        sample.run(tmp_path, **SMALL)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [precious]


def test_a_file_is_no_place_for_a_sample(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        sample.run(tmp_path / "file", **SMALL)


def test_a_failed_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("compcars.sample_tree.write_web_lists", fail)
    with pytest.raises(OSError, match="disk full"):
        sample.run(tmp_path, **{**SMALL, "models": 2})
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_run_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "WAIT_S", 0.1)
    leftover = tmp_path / ".Image_data.0123456789abcdef.part"
    leftover.mkdir()
    options = {**SMALL, "models": 2, "images": 1}
    writer = os.open(leftover, os.O_RDONLY)
    fcntl.flock(writer, fcntl.LOCK_EX)
    with pytest.raises(OSError, match="busy"):
        sample.run(tmp_path, **options)
    assert leftover.exists()
    os.close(writer)  # as the kernel does when a process is killed
    sample.run(tmp_path, **options)
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("models", 1), ("images", 0), ("others", -1), ("width", 31), ("height", 1), ("workers", 0)],
)
def test_impossible_options(tmp_path: Path, option: str, value: int) -> None:
    with pytest.raises(InputError, match=f"--{option} must be at least"):
        sample.run(tmp_path / "new", **{**SMALL, option: value})
    assert not (tmp_path / "new").exists()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert sample.main([f"--dpath={tmp_path}", "--models=1"]) == 1
    assert capsys.readouterr().err == "error: --models must be at least 2, not 1\n"
    small = ["--images=1", "--others=0", "--surveillance=0", "--width=64", "--height=48"]
    assert sample.main([f"--dpath={tmp_path}", "--models=2", *small]) == 0
    marker = json.loads((tmp_path / "Image_data" / "SAMPLE.json").read_text())
    assert marker["images"]["models"] == 2


def test_runs_as_a_file() -> None:
    command = [sys.executable, "compcars/sample.py", "-h"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--surveillance" in shown
    assert "(default: 24)" in shown
