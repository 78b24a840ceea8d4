"""A tiny CompCars tree, and a data directory that every stage has run on, once for all tests."""

import fcntl
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

# Trained weights depend on the number of threads: sums of more are rounded otherwise, and training
# amplifies that from step to step. The libraries below read this when they are imported; each
# worker of pytest-xdist has one core, and pytest alone and the processes of tests do the same.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

import build_image_db
import train
from compcars import data_info, sample, test_data_info
from process_data import image_matrix, make_train_valid, mask_data, mips
from retrieval.data import layout, provenance
from retrieval.training.config import TrainingConfig
from tests import process_state
from tests.faults import mounts
from tests.forks import Forks
from tests.milvus_server import kind, milvus_server, store_name  # noqa: F401  of two rooms

# The smallest network of timm: its checkpoint takes 5 MB, where that of resnet18 takes 130.
ARCH, SIDE = "timm/test_resnet", 32
MODELS, IMAGES, SURVEILLANCE = 6, 8, 3
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--order-seed", type=int, help="draw the order of the files and their tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Draw an order, the same one in each worker; the tests of a file stay together."""
    seed = config.getoption("--order-seed")
    if seed is None:
        return
    drawn = random.Random(seed)
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    order = drawn.sample(list(files), len(files))
    items[:] = [item for name in order for item in drawn.sample(files[name], len(files[name]))]


@pytest.fixture(autouse=True)
def _process_is_left_alone() -> Iterator[None]:
    """Fail a test that leaves the process changed for the tests after it."""
    before = process_state.process_state()
    yield
    changed = process_state.changes(before, process_state.process_state())
    if changed:
        process_state.restore_threads(before)
        pytest.fail(f"left changed for the tests that follow: {'; '.join(changed)}", pytrace=False)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a data directory that one worker of pytest-xdist makes, and all read."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / "shared" / name
    folder.mkdir(parents=True, exist_ok=True)
    data_dir, finished = folder / "ir", folder / "finished"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not finished.exists():
            shutil.rmtree(data_dir, ignore_errors=True)
            make(data_dir)
            finished.touch()
    return data_dir


@pytest.fixture(scope="session")
def _tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"models": MODELS, "images": IMAGES, "others": 1, "surveillance": SURVEILLANCE}
    sizes |= {"width": 72, "height": 48, "workers": 1}
    return made_once(tmp_path_factory, "tree", lambda folder: sample.run(folder, **sizes))


@pytest.fixture(scope="session")
def _pipeline(_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(data_dir: Path) -> None:
        shutil.copytree(_tree, data_dir)
        run_stages(data_dir)

    return made_once(tmp_path_factory, "pipeline", make)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """A process that has imported torch and the stages, and forks to run programs."""
    started = Forks.start()
    yield started
    started.end()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    with ExitStack() as mounted:
        try:
            mounted.enter_context(mounts.tmpfs(tmp_path / "disk", 1 << 20))
        except PermissionError as error:
            pytest.skip(f"no small file system can be mounted: {error}")
        yield tmp_path / "disk"


@pytest.fixture
def tree(_tree: Path, tmp_path: Path) -> Path:
    """A data directory with nothing but Image_data, to be changed at will."""
    return Path(shutil.copytree(_tree, tmp_path / "ir"))


@pytest.fixture
def pipeline(_pipeline: Path, tmp_path: Path) -> Path:
    """A data directory with the files of every stage, to be changed at will."""
    return Path(shutil.copytree(_pipeline, tmp_path / "ir"))


def run_stages(data_dir: Path) -> None:
    """Run the stages of the README up to the exact search, small enough for a test."""
    data_info.run(data_dir)
    test_data_info.run(data_dir)
    image_matrix.run(data_dir, image_resolution=SIDE)
    image_matrix.run(
        data_dir,
        "tindexinfo.csv",
        "Image_data/sv_data/image/",
        "test_image.npy",
        image_resolution=SIDE,
    )
    make_train_valid.run(data_dir, ratio=4, min_len=IMAGES)
    train_small(data_dir, epoch=1)
    for source, output in (("imageset.npy", "database.npy"), ("test_image.npy", "tdatabase.npy")):
        build_image_db.run(data_dir, data_dir / "para" / "model.ep0", source, output)
    mask_data.run(data_dir)
    mips.run(data_dir, k=5, is_valid=True)
    mips.run(data_dir, k=5)


def train_small(data_dir: Path, save_path: Path | None = None, **options: object) -> Path:
    """Train a small network on the CPU."""
    small = {"arch": ARCH, "dim": 16, "weights": "none", "device": "cpu", "lr": 1e-3}
    config = TrainingConfig(**{**small, **options})  # type: ignore[arg-type]
    return train.run(data_dir, save_path or data_dir / "para", config)


def replace_embeddings(data_dir: Path, rows: np.ndarray, name: str = "database.npy") -> None:
    """Write other embeddings, and a record that says they are what it describes."""
    layout.DATABASE.save(data_dir, rows, name)
    record = layout.DATABASE_RECORD.load(data_dir, provenance.record_name(name))
    provenance.save_record(data_dir, name, record)
