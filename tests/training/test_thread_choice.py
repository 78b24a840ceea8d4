"""With how many threads a training computes."""

from pathlib import Path

import pytest
import torch

from retrieval import threads
from retrieval.model import checkpoint
from retrieval.training import thread_choice
from retrieval.training.config import TrainingConfig
from tests.conftest import ARCH, train_small


def test_the_fastest_number_is_printed_kept_and_repeated(
    pipeline: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "usable_processors", lambda: 3)
    monkeypatch.setattr(threads, "free_processors", lambda: 2)
    monkeypatch.setattr(
        thread_choice, "step_seconds", lambda model, precision, count: {3: 5, 2: 1, 1: 2}[count]
    )

    def trained(folder: str, **options: object) -> tuple[int, dict[str, torch.Tensor]]:
        caplog.clear()
        path = train_small(pipeline, tmp_path / folder, precision="float32", **options)
        content = checkpoint.load(path)
        return content["options"]["threads"], content["state_dict"]

    chosen, weights = trained("chosen", epoch=1)
    assert chosen == 2
    assert "2 threads, the fastest beside the other programs; --threads=2 repeats" in caplog.text
    monkeypatch.setattr(threads, "free_processors", lambda: 3)
    again, same = trained("named", epoch=1, threads=2)
    assert again == 2 and all(torch.equal(weights[name], same[name]) for name in weights)
    resumed, _ = trained("chosen", epoch=2, resume="auto")
    assert resumed == 2

    other, _ = trained("chosen", epoch=1)
    assert other == 3
    assert "model.ep0 was trained with 2 threads, this run takes 3" in caplog.text
    assert "--threads=2 repeats that run" in caplog.text


def test_a_step_is_measured_with_a_number_of_threads(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_choice, "LEAST_S", 0.01)
    model = checkpoint.build_model(
        checkpoint.load(pipeline / "para" / "model.ep0"), pipeline / "para" / "model.ep0", ARCH
    )
    seen = []
    model.register_forward_pre_hook(lambda *_: seen.append(0))
    model.backbone.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    assert thread_choice.step_seconds(model, "float32", 2) > 0
    assert set(seen) == {2}


def test_a_named_number_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert thread_choice.with_named(TrainingConfig()).threads == 5
    assert thread_choice.with_named(TrainingConfig(threads=2)).threads == 2
    monkeypatch.setattr(threads, "usable_processors", lambda: 2)
    assert thread_choice.choose_threads(TrainingConfig(threads=4), lambda: None) == 4  # type: ignore[arg-type,return-value]
    assert "4 threads share 2 processors: --threads=2" in caplog.text
