"""The model before any training, as a checkpoint: what every trained model has to beat."""

import logging
from pathlib import Path

from retrieval.data import layout
from retrieval.data.formats import InputError
from retrieval.model import checkpoint
from retrieval.model.model_config import ModelConfig
from retrieval.training.config import TrainingConfig

log = logging.getLogger(__name__)

NAME = "model.untrained"


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

    from retrieval.model import backbones, pretrained
    from retrieval.model.embedding import EmbeddingModel

    side = max(1, round(side * config.scale))
    width = backbones.width(config.arch, side)
    if given.dim not in (None, width) or given.neck == "after":
        raise InputError(
            f"--epoch=0 keeps the {width} pooled features of {config.arch}: leave --dim and --neck "
            "out, or train"
        )
    torch.manual_seed(config.seed)
    mean, std = backbones.normalization(config.arch)
    model = EmbeddingModel(ModelConfig(config.arch, width, side, mean, std, config.pool))
    torch.nn.init.eye_(model.projection.weight)
    weights = pretrained.initialize(model, config.weights)
    path = checkpoint.save(
        save_path / NAME,
        model,
        epoch=-1,  # none
        weights=weights,
        options=config.values() | {"dim": None, "neck": "none"},
        metrics={},
        frozen_norms=False,
    )
    log.info("%s: %s, untrained", path, config.arch)
    return path
