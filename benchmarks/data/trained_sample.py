"""The pipeline on one drawn sample, run by its commands; one seed sets everything random."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measured_process
from benchmarks.pipeline.commands import SURVEILLANCE
from compcars import sample
from retrieval.data.decoded_photos import Crop

VALID = "--isValid=1"


@dataclass(frozen=True)
class Pipeline:
    """A sample, and how to train on it.

    Attributes:
        data_dir: The data directory.
        seed: Seed of the sample, the split and the training.
        models: Number of models in the sample.
        photos: Front photos per model.
        surveillance: Surveillance images per model.
        side: Side of the squares in pixels.
        training: Options of ``train.py``.
        threads: Cores for each command.
        crop: Crop of the web images.
    """

    data_dir: Path
    seed: int
    models: int
    photos: int
    surveillance: int
    side: int
    training: str
    threads: int
    crop: Crop = "box"

    def run(self, command: str, *more: str) -> float:
        """Run a stage and return its seconds."""
        words = [sys.executable, *shlex.split(command), f"--dpath={self.data_dir}", *more]
        return measured_process.run(words, self.threads).seconds

    def prepare(self) -> None:
        """Draw the sample unless it exists, and write the image matrices and the split."""
        sample.run(self.data_dir, self.models, self.photos, 0, self.surveillance, seed=self.seed)
        side = f"--image_resolution={self.side}"
        self.run("-m compcars.data_info")
        self.run("-m compcars.test_data_info")
        self.run(f"-m process_data.image_matrix --crop={self.crop}", side)
        self.run(f"-m process_data.image_matrix {SURVEILLANCE} --mname=test_image.npy", side)
        options = f"--min_len={self.photos} --seed={self.seed}"
        self.run(f"-m process_data.make_train_valid {options}")

    def train(self, options: str = "") -> tuple[Path, float]:
        """Train and encode; return the last checkpoint and the seconds of training.

        Args:
            options: Further options of ``train.py``; they override ``training``.
        """
        folder = self.data_dir / "para"
        for path in folder.glob("model.*"):
            path.unlink()
        command = f"train.py --seed={self.seed} {self.training} {options}"
        seconds = self.run(command, f"--save_path={folder}")
        last = max(folder.glob("model.ep*"), key=lambda path: int(path.name[len("model.ep") :]))
        encode = "build_image_db.py", f"--save_path={last}"
        self.run(*encode)
        self.run(*encode, "--input=test_image.npy", "--output=tdatabase.npy")
        return last, seconds

    def search(self) -> None:
        """Evaluate the current embeddings by exact search, on validation and test queries."""
        self.run("-m process_data.mask_data")
        self.run("-m process_data.mips")
        self.run("-m process_data.mips", VALID)
