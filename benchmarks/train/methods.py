"""The trainings to compare: options of train.py, or a training of the library, by name."""

import shlex
from dataclasses import dataclass, replace

import train
from benchmarks.data import camera_subsets
from retrieval.data import options
from retrieval.training.config import TrainingConfig


@dataclass(frozen=True)
class Method:
    """A training, and how its images are encoded.

    Attributes:
        flags: Options of train.py; None: pixels without any network.
        library: Name of a training of `library_trainings` instead of train.py.
        is_trained: Whether any step is taken.
        flip: Average the embeddings of an image and of its mirror image.
        scale: Multiple of the side at which images are encoded.
    """

    flags: str | None = ""
    library: str = ""
    is_trained: bool = True
    flip: bool = False
    scale: float = 1.0

    def given(self, common: str = "") -> TrainingConfig:
        """Return the options of the method, and ``common`` ones that all methods have."""
        words = shlex.split(f"--dpath=. --save_path=. {common} {self.flags}")
        options_of = vars(train.make_parser().parse_args(words))
        known = options.declared_options(TrainingConfig)
        return TrainingConfig(**{name: options_of[name] for name in known})


PIXELS, UNTRAINED, ORIGINAL, DEFAULT, BEST = (
    "raw pixels",
    "no training",
    "the original's objective",
    "the default, as typed",
    "`--recipe=ce`",
)
_RECIPES = {
    PIXELS: Method(None, is_trained=False),
    UNTRAINED: Method("--pool=avg --neck=none", is_trained=False),
    ORIGINAL: Method(
        "--temperature=1 --negatives=tuple --neck=none --augmentation=none --no-frozen_bn"
    ),
    DEFAULT: Method(),
    BEST: Method("--recipe=ce"),
    "`--recipe=ce --loss=supcon`": Method("--recipe=ce --loss=supcon"),
}

_CE = _RECIPES[BEST]
_CAMERAS = {
    "0": _CE,
    **{
        str(count): Method(f"{_CE.flags} --cameras={index} --camera_images={matrix}")
        for count in camera_subsets.COUNTS
        for index, matrix in [camera_subsets.names(count)]
    },
}

_SMALL = "--recipe=ce --scale=1"
_PLAIN = f"{_SMALL} --no-whitening --frozen_stages=0"
_PHOTOS = {
    UNTRAINED: _RECIPES[UNTRAINED],
    "ProxyAnchor, pytorch-metric-learning": Method(library="ProxyAnchor", flip=True, scale=1.25),
    "MultiSimilarity, pytorch-metric-learning": Method(
        library="MultiSimilarity", flip=True, scale=1.25
    ),
    "ArcFace, pytorch-metric-learning": Method(library="ArcFace", flip=True, scale=1.25),
    "triplets, open-metric-learning": Method(library="OML", flip=True, scale=1.25),
    DEFAULT: Method(),
    "cross-entropy and supervised contrast": Method(_PLAIN),
    "+ flip and scale 1.25": Method(_PLAIN, flip=True, scale=1.25),
    "+ half of the stages frozen": Method(f"{_SMALL} --no-whitening", flip=True, scale=1.25),
    "+ whitening at start and end": Method(_SMALL, flip=True, scale=1.25),
    "+ enlarged images: `--recipe=ce`": replace(_CE, flip=True, scale=1.25),
}

METHODS = {"recipes": _RECIPES, "cameras": _CAMERAS, "photos": _PHOTOS}
