"""The commands of the original README, in sequence, under a fresh home directory."""

import importlib
import shlex
from pathlib import Path

import pytest

from compcars import sample
from retrieval.data import layout
from tests.conftest import ARCH
from tests.test_docs import ORIGINAL, commands

# What a test changes in the original commands: fewer pixels and tuples, a smaller network, one
# epoch.
SMALLER = {
    "process_data.image_matrix": ["--image_resolution=32"],
    "train": [f"--arch={ARCH}", "--weights=none", "--epoch=1", "--dim=32", "--max_tuples=256"],
    "build_image_db": [f"--arch={ARCH}"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory with a space in its path, and ~/ir after all of the commands."""
    home = tmp_path_factory.mktemp("home of somebody")
    # 58 images of each class: what the default --min_len asks for.
    size = {"models": 3, "images": 58, "others": 2, "surveillance": 3, "width": 48, "height": 32}
    sample.run(home / "ir", **size, workers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for command in commands(ORIGINAL):
            first, *arguments = shlex.split(command)
            name = arguments.pop(0) if first == "-m" else first.removesuffix(".py")
            if "-h" in arguments:
                continue
            assert importlib.import_module(name).main([*arguments, *SMALLER.get(name, [])]) == 0
    return home


def test_every_declared_file_is_there(home: Path) -> None:
    later = ("transform", "export_onnx", "audit", "report", "contact_sheet")
    later += ("calibrate", "search", "publish")
    # Of other photos than CompCars, and of a training on camera images.
    of_other_commands = {layout.IMAGE_INDEX.name, layout.CAMERA_INDEX.name}
    of_other_commands |= {layout.CAMERA_MATRIX.name}
    of_other_commands |= {
        file.name
        for file in layout.declared()
        if any(f"process_data.{stage} " in f"{file.stage} " for stage in later)
    }
    for file in layout.declared():
        if file.name not in of_other_commands:
            assert file.at(home / "ir").is_file(), file.name
            if hasattr(file, "load"):
                file.load(home / "ir")


def test_nothing_is_left_lying_about(home: Path) -> None:
    assert [path.name for path in home.iterdir()] == ["ir"]
    assert not list((home / "ir").rglob("*.part"))
    assert (home / "ir" / "para" / "model.ep0").is_file()


@pytest.mark.parametrize("name", ["mips-valid", "mips-test", "nns-valid", "nns-test"])
def test_metrics_have_the_keys_of_the_contract(home: Path, name: str) -> None:
    record = layout.EVALUATION.load(home / "ir", f"evaluations/{name}.json")
    keys = {"n_query", "n_gallery", "k", "cmc@1", "cmc@5", "cmc@10"}
    keys |= {"map@k", "map@k_hits", "map@R"} | ({"map"} if name.startswith("mips") else set())
    assert keys <= set(record)
    assert keys <= set(record["definitions"]) | {"k"}
    n_gallery = 3 * 58 - (3 * (58 // 7) if name.endswith("valid") else 0)
    assert record["n_gallery"] == n_gallery


def test_a_second_run_gives_equal_bytes(home: Path) -> None:
    data_dir = home / "ir"
    names = ("car_front.csv", "train.npy", "imageset.npy", "neighbors.npy", "mAP.json")
    before = {name: (data_dir / name).read_bytes() for name in names}
    argv = [f"--dpath={data_dir}"]
    for name in ("compcars.data_info", "process_data.make_train_valid", "process_data.nns"):
        assert importlib.import_module(name).main(argv) == 0
    small = ["--image_resolution=32"]
    assert importlib.import_module("process_data.image_matrix").main(argv + small) == 0
    assert {name: (data_dir / name).read_bytes() for name in names} == before
