"""Two gloo processes on the CPU, and the one process without it."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.compute import distributed
from retrieval.data.formats import InputError
from tests.forks import Forks

PROGRAM = """
import numpy as np
import torch
from retrieval.compute import distributed

with distributed.process_group(torch.device("cpu")) as device:
    rank = distributed.rank()
    assert device.type == "cpu" and distributed.size() == 2
    parts = distributed.gather(np.arange(rank * 3, dtype=np.float32).reshape(rank, 3))
    assert [part.shape for part in parts] == [(0, 3), (1, 3)] and parts[1].dtype == np.float32
    own = distributed.own_part(11, multiple=4)
    rows = np.concatenate(distributed.gather(np.array(own)))
    assert rows.tolist() == list(range(11)) and own.start % 4 == 0 and len(own)
    distributed.barrier()
    if distributed.is_main():
        print("all is well", flush=True)
        distributed.gather(np.zeros(1))  # the other never comes
        print("not reached")
    raise RuntimeError("this one fails")
"""


def test_two_processes_of_which_one_fails_in_the_end(tmp_path: Path, forks: Forks) -> None:
    log = tmp_path / "log.txt"
    assert 0 not in forks.run_two(log, PROGRAM)
    said = log.read_text()
    assert said.count("all is well") == 1, said
    assert "this one fails" in said
    assert "not reached" not in said


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with distributed.process_group(torch.device("cpu")) as device:
        assert device == torch.device("cpu")
        assert (distributed.size(), distributed.rank()) == (1, 0)
        assert distributed.is_main()
        array = np.arange(3)
        assert distributed.gather(array)[0] is array
        distributed.barrier()


def test_a_name_of_a_device_stays_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with distributed.process_group("cpu") as device:
        assert device == "cpu"


@pytest.mark.parametrize(
    ("error", "is_of_another"),
    [
        (torch.distributed.DistBackendError("NCCL error: remote process exited"), True),
        (torch.distributed.DistNetworkError("the peer is gone"), True),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (2)"), False),
    ],
)
def test_only_errors_of_an_exchange_become_one_line(
    error: RuntimeError, is_of_another: bool
) -> None:
    expected = InputError if is_of_another else type(error)
    with pytest.raises(expected) as found, distributed.exchange():
        raise error
    assert isinstance(found.value, InputError) == is_of_another


def test_parts_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for size, n, multiple in product((1, 2, 3, 7), (0, 1, 5, 64, 65), (1, 8)):
        monkeypatch.setattr(distributed, "size", lambda size=size: size)
        rows: list[int] = []
        for rank in range(size):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            part = distributed.own_part(n, multiple)
            assert not len(part) or part.start % multiple == 0
            rows.extend(part)
        assert rows == list(range(n)), (size, n, multiple)


def test_processes_must_agree_on_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distributed.agreed_dtype(torch.float16) == torch.float16
    others = [np.array("torch.float16"), np.array("torch.bfloat16")]
    monkeypatch.setattr(distributed, "gather", lambda _: others)
    with pytest.raises(InputError, match="torch.bfloat16 and torch.float16; choose one"):
        distributed.agreed_dtype(torch.float16)
