"""The untrained model as a checkpoint: the baseline of every trained model."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.data.images import Images
from retrieval.model import checkpoint
from retrieval.training.cameras import DOMAINS
from retrieval.training.config import TrainingConfig
from retrieval.training.dataset import TrainingData, check_files, has_split

if TYPE_CHECKING:
    from retrieval.model.embedding import EmbeddingModel

log = logging.getLogger(__name__)

NAME = "model.untrained"


def build_first_model(config: TrainingConfig, side: int) -> tuple["EmbeddingModel", str]:
    """Return the model with its first weights, on the CPU, and where the weights came from.

    Args:
        config: The options, none left out but perhaps ``dim``: then the backbone's width.
        side: Image side in pixels, before ``scale``.
    """
    from retrieval.model import backbones, pretrained
    from retrieval.model.embedding import EmbeddingModel
    from retrieval.model.model_config import ModelConfig

    side = max(1, round(side * config.scale))
    width = backbones.width(config.arch, side)
    dim = config.dim or width
    if config.whitening and dim > width:
        log.info("--dim=%d: %s has %d features, and so has the embedding", dim, config.arch, width)
        dim = width
    mean, std = backbones.normalization(config.arch)
    model = EmbeddingModel(ModelConfig(config.arch, dim, side, mean, std, config.pool, config.neck))
    return model, pretrained.initialize(model, config.weights)


def save_untrained(
    data_dir: Path, save_path: Path, config: TrainingConfig, given: TrainingConfig
) -> Path:
    """Write the pretrained backbone with pooling and no training; return the checkpoint.

    It takes no split and no labels: photos can be encoded and searched with it at once. With
    ``whitening`` the projection whitens the features of the photos, within the classes of the split
    where there is one.

    Args:
        data_dir: The data directory; ``imageset.npy`` has the photos.
        save_path: Folder of the checkpoints.
        config: The options, none left out.
        given: The options of the command; the size and the neck of a recipe are ignored.

    Raises:
        InputError: Options ask for layers that only training makes useful, or there is nothing to
            whiten.
    """
    images = layout.IMAGE_MATRIX.load(data_dir)
    photos = _photos_to_fit(data_dir, config) if config.whitening else None
    import torch

    from retrieval.model.tta import takes_one_side

    plain = replace(config, dim=given.dim if config.whitening else None, neck="none")
    torch.manual_seed(plain.seed)
    model, weights = build_first_model(plain, images.shape[-1])
    if given.neck == "after" or (given.dim not in (None, model.config.dim)):
        raise InputError(
            f"--epoch=0 keeps the {model.config.dim} pooled features of {plain.arch}: leave --dim "
            "and --neck out, add --whitening for another --dim, or train"
        )
    if takes_one_side(model):
        plain = replace(plain, encode_scale=1.0)
    about = _ABOUT_NOTHING
    if photos is None:
        torch.nn.init.eye_(model.projection.weight)
    else:
        model = _whitened(model, images, photos, plain)
        about = photos.about
    path = checkpoint.save(
        save_path / NAME,
        model,
        epoch=-1,  # none
        weights=weights,
        options=plain.values(),
        metrics={},
        frozen_norms=False,
        **about,
    )
    log.info("%s: %s, untrained", path, plain.arch)
    return path


_ABOUT_NOTHING: dict[str, Any] = {"domains": [], "split": {}, "held_out": []}


@dataclass(frozen=True)
class _Photos:
    """The photos that a whitening is fitted to.

    Attributes:
        rows: (n,) int64, ascending.
        labels: (n,) int64, their classes; None: no label is used.
        about: What the checkpoint says of them.
    """

    rows: np.ndarray
    labels: np.ndarray | None
    about: dict[str, Any]


def _photos_to_fit(data_dir: Path, config: TrainingConfig) -> _Photos:
    """Return the training photos of the split; all photos where there is none."""
    from retrieval.training.closed_form import fitted_rows

    count, seed = config.whitening_images, config.seed
    if not has_split(data_dir):
        rows = fitted_rows(np.arange(len(layout.IMAGE_MATRIX.load(data_dir))), count, seed)
        return _Photos(rows, None, _ABOUT_NOTHING)
    check_files(data_dir)
    data = TrainingData.load(data_dir, has_tuples=False)
    if config.holdout_classes:
        data = data.hold_out(config.holdout_classes, config.seed)
    rows = fitted_rows(data.rows, count, seed)
    held_out = np.unique(data.labels[data.holdout]).tolist()
    about = {"domains": list(DOMAINS[:1]), "split": data.split, "held_out": held_out}
    return _Photos(rows, data.labels[rows], about)


def _whitened(
    model: "EmbeddingModel", images: Images, photos: _Photos, config: TrainingConfig
) -> "EmbeddingModel":
    """Return the model, on the CPU, with the whitening of the photos' features as projection."""
    import torch

    from retrieval.compute import devices
    from retrieval.model.embedding import put_on
    from retrieval.model.encode import pooled_features
    from retrieval.model.tta import at_scale
    from retrieval.search.whitening import OWN_SHRINKAGE, SHRINKAGE, fit_whitening
    from retrieval.training.closed_form import set_projection

    model = put_on(model, devices.choose(config.device))
    shown = at_scale(model, config.encode_scale)
    features = pooled_features(shown, images, photos.rows, config.batch_size, torch.float32)
    shrinkage = OWN_SHRINKAGE if photos.labels is None else SHRINKAGE
    mean, matrix = fit_whitening(features, photos.labels, model.config.dim, shrinkage)
    model = model.cpu()
    set_projection(model, mean, matrix)
    kind = "without labels" if photos.labels is None else "within classes"
    log.info("whitening fitted to %d photos %s", len(features), kind)
    return model
