"""The log of a run: rows, the best epoch, TensorBoard."""

from pathlib import Path

import pandas as pd
import pytest

from retrieval.data.formats import InputError
from retrieval.training.run_log import RunLog


def test_the_log_drops_what_is_trained_again(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, tensorboard=False)
    for epoch, value in enumerate((0.2, 0.5, 0.4)):
        log.add(epoch, {"loss": 1.0 - epoch, "new map@R": value})
        assert log.is_best == (epoch < 2)
    again = RunLog(tmp_path, 2, tensorboard=False)
    again.add(2, {"loss": 7.0, "new map@R": 0.5})
    assert not again.is_best  # as good as epoch 1, which stays
    table = pd.read_csv(tmp_path / "log.csv")
    assert table["loss"].tolist() == [1.0, 0.0, 7.0]
    RunLog(tmp_path, 0, tensorboard=False).add(0, {"loss": 3.0})
    assert pd.read_csv(tmp_path / "log.csv").to_dict("records") == [{"epoch": 0, "loss": 3.0}]
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="has no column epoch"):
        RunLog(tmp_path, 1, tensorboard=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_the_metrics(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, 0, tensorboard=True)
    log.add(0, {"loss": 2.0})
    log.board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 2.0)]
