"""Training in several processes is training in one."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrieval.compute import collectives, distributed
from retrieval.data import layout
from retrieval.model import checkpoint
from tests import torchrun
from tests.conftest import train_small

pytestmark = pytest.mark.usefixtures("one_thread")

# A step is divided into two chunks, of which two processes take one each.
SMALL = {"epoch": 2, "lr": 1e-3, "micro_batch": 32, "augmentation": "light", "batch_size": 24}


def train_together(data_dir: Path, save_path: Path, **options: Any) -> str:
    """Train with two processes as ``train_small`` does with one, and return what they said."""
    small = {"arch": "resnet18", "dim": 16, "weights": "none", "device": "cpu"}
    given = {"dpath": data_dir, "save_path": save_path, **small, **options}
    result = torchrun.run("train.py", *(f"--{name}={value}" for name, value in given.items()))
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.mark.parametrize(("loss", "batch_size"), [("tuple", 24), ("proxy_anchor", 64), ("ce", 64)])
def test_two_processes_train_as_one_does(
    pipeline: Path, tmp_path: Path, loss: str, batch_size: int
) -> None:
    """With chunks of one size, batch norm sees the same images, and all but rounding is equal."""
    neck = "after" if loss == "ce" else "none"
    options = SMALL | {"loss": loss, "batch_size": batch_size, "neck": neck}
    one = checkpoint.load(train_small(pipeline, tmp_path / "one", **options))
    said = train_together(pipeline, tmp_path / "two", **options)
    two = checkpoint.load(tmp_path / "two" / "model.ep1")
    assert said.count("model.ep1: loss") == 1
    assert sorted(os.listdir(tmp_path / "two")) == ["log.csv", "model.ep0", "model.ep1"]
    for name in ("loss", "positive", "negative"):
        assert two["metrics"][name] == pytest.approx(one["metrics"][name], rel=1e-4)
    assert two["loss"].keys() == one["loss"].keys()
    for key, value in one["state_dict"].items():
        if "running" not in key and "num_batches" not in key:
            scale = float(value.abs().max())
            torch.testing.assert_close(two["state_dict"][key], value, rtol=0, atol=1e-3 * scale)


def test_one_process_goes_on_where_two_stopped(pipeline: Path, tmp_path: Path) -> None:
    train_small(pipeline, tmp_path / "one", **SMALL)
    train_together(pipeline, tmp_path / "two", **(SMALL | {"epoch": 1}))
    train_small(pipeline, tmp_path / "two", start_epoch=0, **SMALL)
    one, two = (checkpoint.load(tmp_path / name / "model.ep1") for name in ("one", "two"))
    assert two["metrics"]["loss"] == pytest.approx(one["metrics"]["loss"], rel=2e-3)


def test_a_process_that_is_killed_stops_the_other(pipeline: Path, tmp_path: Path) -> None:
    small = ["--arch=resnet18", "--dim=16", "--weights=none", "--device=cpu", "--epoch=1000"]
    paths = [f"--dpath={pipeline}", f"--save_path={tmp_path / 'para'}"]
    log = tmp_path / "log.txt"
    process = torchrun.start(log, "train.py", *paths, *small)
    deadline = time.monotonic() + 300
    while not (tmp_path / "para" / "model.ep0").exists() and time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    os.kill(torchrun.workers(process)[1], signal.SIGKILL)
    assert process.wait(300) != 0
    assert "Signal 9" in log.read_text()
    for path in (tmp_path / "para").glob("model.ep*"):
        checkpoint.load(path)  # whole


def test_parts_are_put_together_only_where_there_are_several() -> None:
    own = torch.randn(3, 2)
    assert distributed.size() == 1
    assert collectives.put_together(own, range(3), 3) is own
    before = torch.nn.Linear(2, 2)
    collectives.sum_gradients(before)
    collectives.average_statistics(before)


PROGRAM = """
import torch
from retrieval.compute import collectives, distributed

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
    print("right")
"""


def test_what_two_processes_exchange(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    result = torchrun.run(str(program))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("right") == 2


def test_the_step_of_these_tests_is_divided_evenly(pipeline: Path) -> None:
    images = np.unique(np.array(layout.TRAIN.load(pipeline)))
    assert 32 < len(images) <= 64
