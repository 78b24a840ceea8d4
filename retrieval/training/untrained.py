"""The model before any training, as a checkpoint: what every trained model has to beat."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.model import checkpoint
from retrieval.training.config import TrainingConfig

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
    """Write the pretrained backbone with pooling and no projection; return the checkpoint.

    It takes no split and no labels: photos can be encoded and searched with it at once.

    Args:
        data_dir: The data directory; ``imageset.npy`` says which side the images have.
        save_path: Folder of the checkpoints.
        config: The options, none left out.
        given: The options of the command; the size and the neck of a recipe are ignored.

    Raises:
        InputError: Options ask for layers that only training makes useful.
    """
    side = layout.IMAGE_MATRIX.load(data_dir).shape[-1]
    import torch

    plain = replace(config, dim=None, neck="none")
    torch.manual_seed(plain.seed)
    model, weights = build_first_model(plain, side)
    width = model.config.dim
    if given.dim not in (None, width) or given.neck == "after":
        raise InputError(
            f"--epoch=0 keeps the {width} pooled features of {plain.arch}: leave --dim and --neck "
            "out, or train"
        )
    torch.nn.init.eye_(model.projection.weight)
    path = checkpoint.save(
        save_path / NAME,
        model,
        epoch=-1,  # none
        weights=weights,
        domains=[],
        split={},
        held_out=[],
        options=plain.values(),
        metrics={},
        frozen_norms=False,
    )
    log.info("%s: %s, untrained", path, plain.arch)
    return path
