"""Find the car in a photo, with a detector trained on COCO.

Databases of cars that were cropped to a box (``image_matrix --crop=box``) want photos that are
cropped, too. Any callable that maps a photo to `Detection`s is a detector.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from PIL import Image

from retrieval.data.decode import Box

log = logging.getLogger(__name__)

VEHICLES = ("car", "bus", "truck")
CONFIDENT = 0.5  # least score of a detection that is taken


@dataclass(frozen=True)
class Detection:
    """One object in a photo.

    Attributes:
        label: Its category's name in COCO.
        score: Confidence in [0, 1].
        box: x1, y1, x2, y2 in pixels, end exclusive.
    """

    label: str
    score: float
    box: Box


Detector = Callable[[Image.Image], Sequence[Detection]]


def car_box(photo: Image.Image, detector: Detector) -> Box | None:
    """Return the box of the car that the photo shows; None if there is none.

    The largest box of a car, bus or truck with a confident score: in a street scene, the car that
    was photographed is nearer than the others.

    Args:
        photo: RGB, as displayed.
        detector: Finds objects.
    """
    found = [
        detection
        for detection in detector(photo)
        if detection.label in VEHICLES and detection.score >= CONFIDENT
    ]
    return max(found, key=lambda detection: _area(detection.box)).box if found else None


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


class TorchvisionDetector:
    """A detection network of torchvision.

    Args:
        network: In the form of torchvision: a list of (3, h, w) float32 images in [0, 1] to a list
            of dicts with boxes, labels and scores.
        categories: The name of each label.
    """

    def __init__(self, network: Any, categories: Sequence[str]) -> None:
        self.network = network.eval()
        self.categories = categories

    def __call__(self, photo: Image.Image) -> list[Detection]:
        """Return what is in a photo, RGB, of any size."""
        import torch
        from torchvision.transforms.functional import to_tensor

        with torch.inference_mode():
            (found,) = self.network([to_tensor(photo)])
        columns = (found[name].tolist() for name in ("boxes", "labels", "scores"))
        return [
            Detection(self.categories[label], score, (box[0], box[1], box[2], box[3]))
            for box, label, score in zip(*columns, strict=True)
        ]


def coco_detector() -> TorchvisionDetector | None:
    """Return a Faster R-CNN that was trained on COCO (19 million parameters).

    Its weights come from torchvision's cache or a download. None, with a warning, if neither works.
    """
    import torch
    from torchvision.models import detection

    weights = detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.DEFAULT
    folder = Path(torch.hub.get_dir(), "checkpoints")
    try:
        network = detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=weights, weights_backbone=None, progress=False
        )
    except (OSError, RuntimeError, HTTPException) as error:
        log.warning(
            "--box=auto: the detector's weights cannot be loaded (%s), whole photos are taken; put "
            "%s into %s",
            error,
            weights.url,
            folder,
        )
        return None
    return TorchvisionDetector(network, weights.meta["categories"])
