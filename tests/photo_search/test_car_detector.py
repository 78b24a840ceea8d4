"""Which box is the car's, and a network of random weights behind the same interface."""

import logging
from urllib.error import URLError

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import detection

from retrieval.photo_search.car_detector import (
    Detection,
    TorchvisionDetector,
    car_box,
    coco_detector,
)

PHOTO = Image.new("RGB", (60, 40))


def test_the_largest_confident_vehicle_is_the_car() -> None:
    found = [
        Detection("person", 0.99, (0, 0, 60, 40)),
        Detection("car", 0.4, (0, 0, 50, 40)),
        Detection("car", 0.9, (5, 5, 15, 15)),
        Detection("truck", 0.6, (20, 5, 50, 30)),
    ]
    assert car_box(PHOTO, lambda _: found) == (20, 5, 50, 30)
    assert car_box(PHOTO, lambda _: found[:2]) is None


def test_boxes_labels_and_scores_of_a_network_are_read() -> None:
    class Fixed(nn.Module):
        def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
            assert not self.training
            (image,) = images
            assert image.shape == (3, 40, 60) and image.max() == 1  # [0, 1], channels first
            boxes = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])
            return [
                {
                    "boxes": boxes,
                    "labels": torch.tensor([0, 1]),
                    "scores": torch.tensor([0.5, 0.25]),
                }
            ]

    white = Image.new("RGB", (60, 40), "white")
    assert TorchvisionDetector(Fixed(), ["car", "bus"])(white) == [
        Detection("car", 0.5, (1, 2, 3, 4)),
        Detection("bus", 0.25, (5, 6, 7, 8)),
    ]


def test_a_network_of_random_weights_fits_the_interface() -> None:
    torch.manual_seed(0)
    network = detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4, score_thresh=0.0, detections_per_img=5
    )
    found = TorchvisionDetector(network, ["-", "car", "bus", "truck"])(PHOTO)
    assert 1 <= len(found) <= 5
    for one in found:
        assert one.label in ("car", "bus", "truck") and 0 <= one.score <= 1
        x1, y1, x2, y2 = one.box
        assert 0 <= x1 <= x2 <= 60 and 0 <= y1 <= y2 <= 40
    sure = [Detection(one.label, 1.0, one.box) for one in found]
    largest = max(sure, key=lambda one: (one.box[2] - one.box[0]) * (one.box[3] - one.box[1]))
    assert car_box(PHOTO, lambda _: sure) == largest.box


def test_without_weights_it_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def offline(**_: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(detection, "fasterrcnn_mobilenet_v3_large_320_fpn", offline)
    with caplog.at_level(logging.WARNING):
        assert coco_detector() is None
    (line,) = caplog.messages
    assert "whole photos are taken" in line and ".pth into " in line
