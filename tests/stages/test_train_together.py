"""Training in several processes is training in one."""

import os
import shlex
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrieval.compute import collectives, distributed
from retrieval.data import layout
from retrieval.model import checkpoint
from tests import torchrun
from tests.conftest import ARCH, train_small

# A step is divided into two chunks, of which two processes take one each.
SMALL = {"epoch": 2, "lr": 1e-3, "micro_batch": 32, "augmentation": "light", "batch_size": 24}
CLASSES = {"batch_size": 64, "neck": "none"}
CASES: dict[str, dict[str, Any]] = {
    "tuple": SMALL,
    "proxy_anchor": SMALL | CLASSES | {"loss": "proxy_anchor"},
    "ce": SMALL | CLASSES | {"loss": "ce", "neck": "after"},
    "minutes": {"recipe": "ce", "minutes": 3, "max_tuples": 16},
    "stopped": SMALL | {"epoch": 1},
    "killed": {"epoch": 1000},
}
# All but the last training, what is exchanged, and the last one: one start for all, as starting
# takes longer.
PROGRAM = """
import shlex
import sys
from dataclasses import replace

import torch

import train
from retrieval.compute import collectives, distributed
from retrieval.training import budget

# Minutes of steps that take seconds more: a few steps, of a number that depends on the measurement.
measure = budget.measure_pace

def measure_slower(*given):
    pace, warm = measure(*given)
    return replace(pace, step_s=pace.step_s + 9, frozen_step_s=pace.step_s + 9), warm

budget.measure_pace = measure_slower

# The first training joins the processes. They cannot join twice, so they stay together.
torch.distributed.destroy_process_group = lambda: None
*trainings, last = [shlex.split(options) for options in sys.argv[1:]]
for options in trainings:
    assert train.main(options) == 0
with distributed.process_group(torch.device("cpu")):
    rank = distributed.rank()
    whole = torch.arange(10.0).reshape(5, 2)
    part = distributed.own_part(5)
    found = collectives.put_together(whole[part.start : part.stop], part, 5)
    assert torch.equal(found, whole)

    torch.manual_seed(rank)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    collectives.share_weights(model)
    torch.manual_seed(0)
    assert torch.equal(model[0].weight, torch.nn.Linear(2, 3).weight)

    model[0].weight.grad = torch.full((3, 2), rank + 1.0)
    collectives.sum_gradients(model)
    assert (model[0].weight.grad == 3).all() and (model[0].bias.grad == 0).all()
    model[0].weight.grad.fill_(rank + 5)
    collectives.share_gradients(model)
    assert (model[0].weight.grad == 5).all()

    model[1].running_mean.fill_(rank)
    collectives.average_statistics(model)
    assert (model[1].running_mean == 0.5).all() and (model[1].running_var == 1).all()
    model.eval()
    model[1].running_mean.fill_(rank)
    collectives.average_statistics(model)
    assert (model[1].running_mean == rank).all()
    print("the exchange is right", flush=True)
train.main(last)
"""


@dataclass
class Together:
    """What two processes did: the folders of their runs, what they said, how they ended."""

    folder: Path
    said: str
    status: int


@pytest.fixture(scope="module")
def together(_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Together:
    """Start two processes that train each case as ``train_small`` does, and kill one in the last.

    The last case would not end for long.
    """
    folder = tmp_path_factory.mktemp("together")
    program, log, last = folder / "program.py", folder / "log.txt", list(CASES)[-1]
    program.write_text(PROGRAM)
    small = {"dpath": _pipeline, "arch": ARCH, "dim": 16, "weights": "none", "device": "cpu"}
    given = [{**small, "save_path": folder / name, **options} for name, options in CASES.items()]
    trainings = [shlex.join(f"--{name}={value}" for name, value in one.items()) for one in given]
    process = torchrun.start(log, str(program), *trainings)
    deadline = time.monotonic() + 300
    while not (folder / last / "model.ep0").exists() and time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    os.kill(torchrun.workers(process)[1], signal.SIGKILL)
    status = process.wait(300)
    return Together(folder, log.read_text(), status)


@pytest.mark.parametrize("loss", ["tuple", "proxy_anchor", "ce"])
def test_two_processes_train_as_one_does(
    pipeline: Path, tmp_path: Path, together: Together, loss: str
) -> None:
    """With chunks of one size, batch norm sees the same images, and all but rounding is equal."""
    one = checkpoint.load(train_small(pipeline, tmp_path, **CASES[loss]))
    folder = together.folder / loss
    two = checkpoint.load(folder / "model.ep1")
    assert together.said.count(f"{folder / 'model.ep1'}: loss") == 1
    assert sorted(os.listdir(folder)) == ["log.csv", "model.ep0", "model.ep1"]
    for name in ("loss", "positive", "negative"):
        assert two["metrics"][name] == pytest.approx(one["metrics"][name], rel=1e-4)
    assert two["loss"].keys() == one["loss"].keys()
    for key, value in one["state_dict"].items():
        if "running" not in key and "num_batches" not in key:
            scale = float(value.abs().max())
            torch.testing.assert_close(two["state_dict"][key], value, rtol=0, atol=1e-3 * scale)


def test_one_process_goes_on_where_two_stopped(
    pipeline: Path, tmp_path: Path, together: Together
) -> None:
    train_small(pipeline, tmp_path / "one", **SMALL)
    shutil.copytree(together.folder / "stopped", tmp_path / "two")
    train_small(pipeline, tmp_path / "two", start_epoch=0, **SMALL)
    one, two = (checkpoint.load(tmp_path / name / "model.ep1") for name in ("one", "two"))
    assert two["metrics"]["loss"] == pytest.approx(one["metrics"]["loss"], rel=2e-3)


def test_a_process_that_is_killed_stops_the_other(together: Together) -> None:
    assert together.status != 0
    assert "Signal 9" in together.said
    paths = list((together.folder / "killed").glob("model.ep*"))
    assert 0 < len(paths) < 1000
    for path in paths:
        checkpoint.load(path)  # whole


def test_what_two_processes_exchange(together: Together) -> None:
    assert together.said.count("the exchange is right") == 2


def test_parts_are_put_together_only_where_there_are_several() -> None:
    own = torch.randn(3, 2)
    assert distributed.size() == 1
    assert collectives.put_together(own, range(3), 3) is own
    before = torch.nn.Linear(2, 2)
    collectives.sum_gradients(before)
    collectives.average_statistics(before)


def test_the_step_of_these_tests_is_divided_evenly(pipeline: Path) -> None:
    images = np.unique(np.array(layout.TRAIN.load(pipeline)))
    assert 32 < len(images) <= 64


def test_processes_agree_on_what_fits_into_the_minutes(together: Together) -> None:
    folder = together.folder / "minutes"
    epochs = len(list(folder.glob("model.ep*")))
    assert together.said.count("instead of --minutes=3") == 1
    assert checkpoint.load(folder / f"model.ep{epochs - 1}")["options"]["epoch"] == epochs > 1
