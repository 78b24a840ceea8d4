"""The training data belongs together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.training.dataset import TrainingData
from tests.conftest import train_small


def test_files_of_different_splits_are_refused(pipeline: Path) -> None:
    queries = np.array(layout.VALID_QUERIES.load(pipeline))
    leaked = np.array(layout.TRAIN.load(pipeline))[:1, :1]
    changed = queries.copy()
    changed[0, 0] = leaked[0, 0]
    layout.VALID_QUERIES.save(pipeline, changed)
    with pytest.raises(InputError, match="train.npy holds validation images"):
        train_small(pipeline)
    layout.VALID_QUERIES.save(pipeline, queries)
    layout.IMAGE_MATRIX.save(pipeline, np.array(layout.IMAGE_MATRIX.load(pipeline))[1:])
    with pytest.raises(InputError, match="has 47 images, but the split has 48"):
        train_small(pipeline)


def test_the_file_with_tuples_of_another_split_is_named(pipeline: Path) -> None:
    tuples = np.array(layout.TRAIN_REVERSED.load(pipeline))
    tuples[-1, -1] = layout.VALID_QUERIES.load(pipeline)[0, 0]
    layout.TRAIN_REVERSED.save(pipeline, tuples)
    with pytest.raises(InputError, match="train2.npy holds validation images"):
        TrainingData.load(pipeline)


def test_classes_with_one_image_cannot_be_held_out(pipeline: Path) -> None:
    data = TrainingData.load(pipeline)
    classes = np.unique(data.labels)
    labels = np.arange(len(data.labels)) + len(classes)  # each image a class of its own
    for label in classes[:2]:
        labels[data.labels == label] = label
    data = replace(data, labels=labels)
    with pytest.raises(InputError, match="=3: only 2 classes have two images or more"):
        data.hold_out(3, seed=0)
    with pytest.raises(InputError, match="takes 0 of .* at least one must be held out"):
        data.hold_out(0.1, seed=0)


def test_tuples_of_wrong_classes_are_refused(pipeline: Path) -> None:
    tuples = np.array(layout.TRAIN.load(pipeline))
    tuples[3, 2] = tuples[3, 0]  # a negative that is no negative
    layout.TRAIN.save(pipeline, tuples)
    with pytest.raises(InputError, match=r"train\.npy has tuples that are not two images of a"):
        TrainingData.load(pipeline)
