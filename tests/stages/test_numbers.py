"""Numbers that no stage can take end in one line."""

from pathlib import Path

import pytest

import build_image_db
import train
from compcars import sample
from process_data import contact_sheet, image_matrix, make_train_valid, mips, nns, transform


@pytest.mark.parametrize(
    ("stage", "arguments"),
    [
        (make_train_valid, "--seed=-1"),
        (contact_sheet, "--seed=-1"),
        (nns, "--seed=-3"),
        (image_matrix, "--workers=-1"),
        (sample, "--seed=-1"),
        (transform, "--power=nan"),
        (build_image_db, "--save_path=x --scales=1,inf"),
        (build_image_db, "--save_path=x --scales=nan"),
        (train, "--save_path=x --lr=nan"),
        (train, "--save_path=x --minutes=inf"),
        (train, "--save_path=x --seed=-1"),
        (mips, "--qe_alpha=inf"),
        (mips, "--qe=1000000"),
        (mips, "--dba=1000000"),
        (nns, "--dimension=1000"),
        (nns, "--dimension=0"),
    ],
)
def test_impossible_numbers(
    pipeline: Path, capsys: pytest.CaptureFixture[str], stage: object, arguments: str
) -> None:
    argv = [f"--dpath={pipeline}", *arguments.split()]
    assert stage.main(argv) == 1  # type: ignore[attr-defined]
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert "--" in line
