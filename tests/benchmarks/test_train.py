"""The accuracy of trainings, at a tiny size."""

from pathlib import Path

from benchmarks import results
from benchmarks.train import accuracy
from benchmarks.train.methods import BEST, DEFAULT, METHODS, PIXELS, UNTRAINED
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
    accuracy.run(accuracy.make_parser().parse_args([*argv, "default", BEST]))
    table = results.latest(tmp_path, "training_tiny").set_index("method")
    assert len(table) == 4
    assert table.loc[DEFAULT, "images"] > 0 == table.loc[UNTRAINED, "images"]
    assert table.loc[PIXELS, "validation cmc@1"].endswith("± 0.000")
    assert "[" in table.loc[DEFAULT, "camera gain"]


def test_new_classes_are_searched_among_themselves(pipeline: Path, tmp_path: Path) -> None:
    make_train_valid.run(pipeline, protocol="classes")
    layout.TEST_MATRIX.at(pipeline).unlink()
    argv = [f"--dpath={pipeline}", "--name=new", f"--output={tmp_path}", "--only", "pixels"]
    accuracy.run(accuracy.make_parser().parse_args(argv))
    table = results.latest(tmp_path, "training_new").set_index("method")
    mask_data.run(pipeline)
    expected = baselines.run(pipeline, k=3, is_valid=True)[0]
    assert table.loc[PIXELS, "validation map@R"] == f"{expected['map@R']:.3f} ± 0.000"


def test_every_method_parses() -> None:
    for name, method in [item for group in METHODS.values() for item in group.items()]:
        if method.flags is not None:
            assert resolve_config(method.given("--seed=3")).seed == 3, name
