"""A short campaign: the same faults as `make campaign`, on the stages that take a moment."""

import subprocess
import sys
from pathlib import Path

from tests.faults.stages import CASES

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("image_matrix", "make_train_valid", "transform", "mask_data", "mips")
COUNTS = ("--inputs=4", "--options=6", "--kills=2", "--together=1", "--disks=1", "--workers=1")

# Stores are attacked in tests/store (kills.py, test_faults.py), the page in tests/web: their
# libraries have threads of their own, which a fork leaves behind.
ELSEWHERE = {f"process_data.{name}" for name in ("publish", "add", "remove", "serve")}


def test_every_stage_is_attacked() -> None:
    commands = [*(ROOT / "process_data").glob("*.py"), *(ROOT / "compcars").glob("*data_info.py")]
    stages = {f"{path.parent.name}.{path.stem}" for path in commands if path.stem != "__init__"}
    stages |= {"compcars.sample", "train", "build_image_db"}
    assert {case.command.module for case in CASES} | ELSEWHERE == stages


def test_no_stage_breaks_a_promise(pipeline: Path) -> None:
    # A process of its own: it forks, and other tests have started threads in this one.
    stages = [f"--stage=process_data.{name}" for name in STAGES]
    command = [sys.executable, "-m", "tests.faults.campaign", f"--data={pipeline}"]
    command += [*COUNTS, *stages, "--stage=build_image_db", "--seed=3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| process_data.") == len(STAGES)
