"""The photos below a folder, and a count of what was left out, by reason."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from retrieval.data.image_formats import HEIF_SUFFIXES, image_suffixes

log = logging.getLogger(__name__)

# Folders of file managers, network disks, archives and waste baskets; names beside the hidden ones.
SYSTEM_FOLDERS = frozenset(
    {"@eadir", "#recycle", "__macosx", "$recycle.bin", "system volume information", "lost+found"}
)
OF_SYSTEM = "hidden, or in folders of the system"
SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r"})


@dataclass
class PhotoFolder:
    """The photos below a folder, and what was skipped.

    Attributes:
        root: The folder.
        paths: The photos, relative to it, with ``/``, sorted.
        left_out: Reason -> number of files or folders, in the order of their discovery.
        suffixes: Suffix -> number of the files that are no images by their names.
    """

    root: Path
    paths: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    suffixes: Counter[str] = field(default_factory=Counter)

    def reasons(self) -> str:
        """Return the skipped files as text, empty if there are none.

        >>> PhotoFolder(Path(), suffixes=Counter({".txt": 2, ".nef": 1})).reasons()
        '3 not images by their names (.txt 2, .nef 1)'
        """
        parts = [f"{count} {reason}" for reason, count in self.left_out.items()]
        if self.suffixes:
            names = ", ".join(f"{name} {count}" for name, count in self.suffixes.most_common(5))
            more = ", ..." if len(self.suffixes) > 5 else ""
            parts.append(f"{self.suffixes.total()} not images by their names ({names}{more})")
        return "; ".join(parts)

    def say_left_out(self) -> None:
        """Log in one line which files were skipped and why, if any."""
        if reasons := self.reasons():
            log.warning("left out below %s: %s", self.root, reasons)

    def why_empty(self) -> str:
        """Return why there are no photos, as the end of a message."""
        reasons = self.reasons()
        return f"has no images that can be read (left out: {reasons})" if reasons else "is empty"


def find_photos(root: Path) -> PhotoFolder:
    """List the images below a folder, in all sub-folders.

    An image is a file with the suffix of a format that is read. Links are followed: a link to a
    file is that file; a link to a folder that is not below ``root`` anyway is a folder. Hidden
    files and folders, and those of `SYSTEM_FOLDERS`, are left out.
    """
    found = PhotoFolder(root)
    entered: set[tuple[int, int]] = set()
    links: list[str] = []
    _walk(found, [""], entered, links)
    while links:  # folders are listed under their own names first
        _walk(found, [links.pop(0)], entered, links)
    found.paths.sort()
    return found


def _walk(
    found: PhotoFolder, folders: list[str], entered: set[tuple[int, int]], links: list[str]
) -> None:
    """List some folders and those in them; put links to folders, sorted, into ``links``."""
    while folders:
        folder = folders.pop()
        status = (found.root / folder).stat()
        if (status.st_dev, status.st_ino) in entered:
            found.left_out["links to folders that are listed already"] += 1
            continue
        entered.add((status.st_dev, status.st_ino))
        for entry in _entries(found, folder):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                if _is_of_system(entry.name):
                    _count_hidden(found, found.root / path)
                else:
                    (links if entry.is_symlink() else folders).append(path)
            else:
                _list_file(found, entry, path)


def _entries(found: PhotoFolder, folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(found.root / folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        found.left_out["folders that this user may not open"] += 1


def _list_file(found: PhotoFolder, entry: os.DirEntry[str], path: str) -> None:
    """List a file that is an image, or count why it is not."""
    suffix = PurePosixPath(entry.name).suffix.lower()
    if _is_of_system(entry.name):
        if suffix in image_suffixes() | HEIF_SUFFIXES:
            found.left_out[OF_SYSTEM] += 1
    elif not entry.is_file():
        found.left_out["links to nothing, or no files"] += 1
    elif suffix in image_suffixes():
        found.paths.append(path)
    elif suffix in HEIF_SUFFIXES:
        found.left_out["HEIC (to read these: pip install pillow-heif)"] += 1
    else:
        found.suffixes[suffix or "without a suffix"] += 1


def _count_hidden(found: PhotoFolder, folder: Path) -> None:
    """Count the images in a folder that is not entered."""
    for _, _, names in os.walk(folder):
        suffixes = image_suffixes() | HEIF_SUFFIXES
        n_image = sum(PurePosixPath(name).suffix.lower() in suffixes for name in names)
        if n_image:
            found.left_out[OF_SYSTEM] += n_image


def _is_of_system(name: str) -> bool:
    return name[0] == "." or name.lower() in SYSTEM_FOLDERS | SYSTEM_FILES
