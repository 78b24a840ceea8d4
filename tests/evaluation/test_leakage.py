"""Files that do not belong together are refused: other splits, other lists, other content."""

from pathlib import Path

import numpy as np
import pytest

import build_image_db
from process_data import image_matrix, make_train_valid, mask_data, mips, nns
from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.training.dataset import TrainingData
from tests.conftest import IMAGES, SIDE, train_small

SPLIT = {"ratio": 4, "min_len": IMAGES}


def test_queries_that_were_trained_on_are_refused(pipeline: Path) -> None:
    make_train_valid.run(pipeline, **SPLIT, seed=8)
    mask_data.run(pipeline)
    for search in (mips.run, nns.run):
        with pytest.raises(InputError, match="trained on another split of the same images"):
            search(pipeline, k=5, is_valid=True)
    mips.run(pipeline, k=5)  # no test image was trained on
    with pytest.raises(InputError, match="model.ep0 was trained on another split"):
        train_small(pipeline, epoch=2, start_epoch=0)
    # The same split, made again, is the same.
    make_train_valid.run(pipeline, **SPLIT)
    mask_data.run(pipeline)
    mips.run(pipeline, k=5, is_valid=True)
    train_small(pipeline, epoch=2, start_epoch=0)


def test_a_list_in_another_order_is_refused(pipeline: Path) -> None:
    table = layout.CAR_FRONT.load(pipeline)
    shuffled = table.sample(frac=1, random_state=0).assign(Index=np.arange(len(table)))
    layout.CAR_FRONT.save(pipeline, shuffled, "shuffled.csv")
    # The split of one list, the images and embeddings of the other.
    make_train_valid.run(pipeline, "shuffled.csv", **SPLIT)
    with pytest.raises(InputError, match="imageset.npy was made from another list of images"):
        TrainingData.load(pipeline)
    with pytest.raises(InputError, match="database.npy was made from another list of images"):
        mask_data.run(pipeline)
    image_matrix.run(pipeline, "shuffled.csv", image_resolution=SIDE)
    TrainingData.load(pipeline)


@pytest.mark.parametrize("name", ["database.npy", "tdatabase.npy"])
def test_a_record_beside_other_embeddings_is_refused(pipeline: Path, name: str) -> None:
    """As a command leaves it that is killed between the two."""
    rows = np.array(layout.DATABASE.load(pipeline, name))
    layout.DATABASE.save(pipeline, np.roll(rows, 1, axis=0), name)
    with pytest.raises(InputError, match=f"does not describe this {name}"):
        mips.run(pipeline, k=5)


def test_a_record_beside_other_images_is_refused(pipeline: Path) -> None:
    images = np.array(layout.IMAGE_MATRIX.load(pipeline))
    layout.IMAGE_MATRIX.save(pipeline, 255 - images)
    with pytest.raises(InputError, match="imageset.json does not describe this imageset.npy"):
        TrainingData.load(pipeline)


def test_evaluations_name_the_checkpoint_and_the_held_out_classes(pipeline: Path) -> None:
    folder = pipeline / "held"
    train_small(pipeline, folder, epoch=1, holdout_classes=2)
    build_image_db.run(pipeline, folder / "model.best")
    mips.run(pipeline, k=5, is_valid=True)
    record = layout.METRICS.load(pipeline)
    assert len(record["held_out"]) == 2
    assert record["checkpoint"].endswith("model.best")
