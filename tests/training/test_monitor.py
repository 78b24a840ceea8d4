"""What is logged of the steps, and what stops them."""

import numpy as np
import pytest
import torch

from retrieval.data.formats import InputError
from retrieval.data.image_loader import AsyncCopy
from retrieval.training import monitor


def test_means_are_logged_where_no_terminal_shows_a_bar(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with monitor.Progress(monitor.Monitor(1), 4, show_batch=2) as shown:
        shown.bar.disable = True
        for loss in (1.0, 2.0, 3.0, 5.0):
            shown.take(AsyncCopy(torch.tensor([loss, 0.5, 0.25, 1.0])))
    assert [record.message for record in caplog.records] == [
        "epoch 1, step 2 of 4: loss 1.5000, positive 0.5000, negative 0.2500",
        "epoch 1, step 4 of 4: loss 4.0000, positive 0.5000, negative 0.2500",
    ]


def test_similarities_and_guards(caplog: pytest.LogCaptureFixture) -> None:
    labels = torch.tensor([0, 0, 1])
    features = torch.tensor([[3.0, 0.0], [0.6, 0.8], [0.0, 2.0]])
    assert monitor.mean_similarities(features, labels).tolist() == pytest.approx([0.6, 0.4])
    good = monitor.Monitor(0)
    for _ in range(monitor.WINDOW):
        good.note(1.0, 0.6, 0.4)
    assert not caplog.records
    assert good.means() == pytest.approx({"loss": 1, "positive": 0.6, "negative": 0.4})
    for similarities in ((0.99, 0.985), (0.5, 0.499)):
        collapsed = monitor.Monitor(0)
        for _ in range(monitor.WINDOW + 5):
            collapsed.note(1.0, *similarities)
        assert [record.message[:29] for record in caplog.records] == [
            "The embeddings have collapsed"
        ]
        caplog.clear()
    before: list[monitor.Row] = []
    for epoch in range(3):  # epochs too short for the window
        short = monitor.Monitor(epoch, before=before)
        for _ in range(monitor.WINDOW // 2 - 10):
            short.note(1.0, 0.99, 0.985)
        before = short.window
    assert [record.message[:29] for record in caplog.records] == ["The embeddings have collapsed"]
    assert short.means()["positive"] == pytest.approx(0.99)
    positive, _ = monitor.mean_similarities(features[1:], labels[1:]).tolist()
    alone = monitor.Monitor(0)
    alone.note(1.0, positive, 0.4)
    assert np.isnan(alone.means()["positive"])
    alone.note(1.0, 0.2, 0.4)
    assert alone.means()["positive"] == pytest.approx(0.2)
    with pytest.raises(InputError, match="the loss is inf at step 3 of epoch 0"):
        alone.note(float("inf"), 0.5, 0.4)
