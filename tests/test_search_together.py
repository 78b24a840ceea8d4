"""Exact search by several processes finds, to the byte, what one finds."""

from pathlib import Path

from process_data import mips
from retrieval import layout
from tests import torchrun


def test_two_processes_write_the_files_of_one(pipeline: Path) -> None:
    mips.run(pipeline, k=3)
    names = [
        *(file.name for file in (layout.NEIGHBORS, layout.SIMILARITIES, layout.PER_QUERY)),
        *(file.name for file in (layout.METRICS, layout.EVALUATION)),
    ]
    alone = {name: (pipeline / name).read_bytes() for name in names}
    for name in names:
        (pipeline / name).unlink()
    result = torchrun.run("-m", "process_data.mips", f"--dpath={pipeline}", "--k=3")
    assert result.returncode == 0, result.stderr
    assert {name: (pipeline / name).read_bytes() for name in names} == alone
    assert result.stdout.count("map@R") == 1
