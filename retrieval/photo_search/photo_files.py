"""The photos named on the command line."""

from collections.abc import Sequence
from pathlib import Path

from retrieval.data.formats import InputError
from retrieval.data.photo_folder import find_photos


def photo_files(names: Sequence[Path]) -> list[Path]:
    """Return the files that ``--image`` names, in order; a folder stands for all images below it.

    What is left out of a folder is said in a line. Relative names are relative to the working
    directory.

    Raises:
        InputError: A file or folder is missing, or a folder has no image.
    """
    found: list[Path] = []
    for name in names:
        if name.is_dir():
            found += _images_below(name)
        elif name.is_file():
            found.append(name)
        else:
            raise InputError(f"--image: {name} is missing; name a photo or a folder of photos")
    if not found:
        raise InputError("--image names no photo")
    return found


def _images_below(folder: Path) -> list[Path]:
    found = find_photos(folder)
    if not found.paths:
        raise InputError(f"--image: {folder} {found.why_empty()}; name a folder of photos")
    found.say_left_out()
    return [folder / path for path in found.paths]
