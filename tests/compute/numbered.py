"""A job in shards for tests of engines: row i holds the number i, and what goes wrong is chosen."""

import errno
import os
import signal
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from retrieval.data.files import RowWriter
from retrieval.data.shards import Shards

ROWS = 24


@dataclass(frozen=True)
class NumberedJob:
    """The numbers of the rows.

    Attributes:
        target: The file of the whole array.
        shards: Number of parts.
        seconds: Time that a shard takes.
        fault: ``kill``: the process of shard 3 dies; ``full``: the disk is full at shard 3;
            ``import``: it needs what is not installed; ``bug``: it is wrong. If ``once`` is
            there, the fault removes it first, and happens only then.
    """

    target: Path
    shards: int = 6
    seconds: float = 0.0
    fault: str = ""

    uses_gpu = True

    @property
    def once(self) -> Path:
        return self.target.with_name("once")

    def on_node(self, count: int) -> "NumberedJob":
        return self

    @cached_property
    def plan(self) -> Shards:
        shape, record = (ROWS, 2), {"holds": "numbers"}
        is_done = self.target.exists()
        return Shards(self.target, shape, "int64", self.shards, record, is_done=is_done)

    def make(self, number: int) -> None:
        self.plan.make_one(self.write, number)

    def write(self, part: RowWriter, rows: range) -> str:
        time.sleep(self.seconds)
        part.write(0, np.stack([np.array(rows)] * 2, axis=1))
        if self.fault and rows.start == 3 * ROWS // self.shards and self.once.exists():
            self.once.unlink()
            self.fail()
        return ""

    def fail(self) -> None:
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.fault == "import":
            raise ImportError("No module named 'some_codec'")
        raise ZeroDivisionError
