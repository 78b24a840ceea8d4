"""benchmarks.bench_training at a tiny size, and the folders of emoji and of photos."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import bench_training, cifar, emoji, results
from benchmarks.training_methods import BEST, DEFAULT, METHODS, PIXELS, UNTRAINED
from process_data import baselines, make_train_valid, mask_data
from retrieval.data import layout
from retrieval.training.recipes import resolve_config


def test_methods_are_compared_at_equal_time(pipeline: Path, tmp_path: Path) -> None:
    argv = [f"--dpath={pipeline}", "--name=tiny", f"--output={tmp_path}", "--minutes=0.003"]
    argv += [
        "--seeds",
        "1",
        "2",
        "--arch=timm/test_resnet",
        "--weights=none",
        "--only",
        "pixels",
        "no training",
    ]
    bench_training.run(bench_training.make_parser().parse_args([*argv, "default", BEST]))
    table = results.latest(tmp_path, "training_tiny").set_index("method")
    assert len(table) == 4
    assert table.loc[DEFAULT, "images"] > 0 == table.loc[UNTRAINED, "images"]
    assert table.loc[PIXELS, "validation cmc@1"].endswith("± 0.000")
    assert "[" in table.loc[DEFAULT, "camera gain"]


def test_new_classes_are_searched_among_themselves(pipeline: Path, tmp_path: Path) -> None:
    make_train_valid.run(pipeline, protocol="classes")
    layout.TEST_MATRIX.at(pipeline).unlink()
    argv = [f"--dpath={pipeline}", "--name=new", f"--output={tmp_path}", "--only", "pixels"]
    bench_training.run(bench_training.make_parser().parse_args(argv))
    table = results.latest(tmp_path, "training_new").set_index("method")
    mask_data.run(pipeline)
    expected = baselines.run(pipeline, k=3, is_valid=True)[0]
    assert table.loc[PIXELS, "validation map@R"] == f"{expected['map@R']:.3f} ± 0.000"


def test_every_method_parses() -> None:
    for name, method in [item for group in METHODS.values() for item in group.items()]:
        if method.flags is not None:
            assert resolve_config(method.given("--seed=3")).seed == 3, name


def test_photos_of_cifar_become_folders(tmp_path: Path) -> None:
    labels = [0, 1, 1] + [9] * 7
    sheet = np.random.default_rng(0).integers(0, 256, (10, 32 * 32, 3), np.uint8)
    for name in ("test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        Image.fromarray(sheet).save(tmp_path / f"{name}.png")
    (tmp_path / "test_lables.json").write_text(json.dumps(labels))
    (tmp_path / "train_lables.json").write_text(json.dumps([2] * 50_000))
    assert cifar.run(tmp_path, tmp_path / "data", count=2) == 2 + 1 + 2 + 2
    photos = sorted(
        p.relative_to(tmp_path / "data/photos").as_posix() for p in tmp_path.glob("data/photos/*/*")
    )
    assert photos[:3] == [
        "airplane/test00000.png",
        "automobile/test00001.png",
        "automobile/test00002.png",
    ]
    found = np.asarray(Image.open(tmp_path / "data/photos/automobile/test00002.png"))
    np.testing.assert_array_equal(found, sheet[2].reshape(32, 32, 3))


def test_emoji_of_all_vendors_become_folders(tmp_path: Path) -> None:
    for vendor in emoji.VENDORS:
        folder = tmp_path / "packages" / vendor / "package"
        pictures = folder / "img" / vendor / "64"
        pictures.mkdir(parents=True)
        names = ["1f600", "1f697"] + ["1f4a9"] * (vendor != "google")
        table = [{"unified": name.upper(), "image": f"{name}.png"} for name in names]
        (folder / "emoji.json").write_text(json.dumps(table))
        for name in names:
            Image.new("RGB", (4, 4)).save(pictures / f"{name}.png")
    assert emoji.run(tmp_path / "packages", tmp_path / "data") == 2
    found = sorted(p.relative_to(tmp_path / "data").as_posix() for p in tmp_path.glob("data/*/*/*"))
    assert [p for p in found if p.startswith("queries")] == [
        "queries/1F600/facebook.png",
        "queries/1F697/facebook.png",
    ]
    assert len(found) == 8
    with pytest.raises(SystemExit, match="unpack emoji-datasource-apple"):
        emoji.run(tmp_path / "data", tmp_path / "other")
