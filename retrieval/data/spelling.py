"""Names of classes and makes, spelled in one way.

Unicode has two spellings of accented letters: composed, as Linux and Windows type them, and
decomposed, as macOS writes names of files. They look alike and compare as different.
"""

import unicodedata


def composed(name: str) -> str:
    """Return a name as it is kept and shown.

    >>> composed("Citroe\\u0308n") == "Citro\\u00ebn"
    True
    """
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Return the normalized form of a name, equal for spellings that a person would call the same.

    >>> folded("CITROE\\u0308N") == folded("Citro\\u00ebn")
    True
    """
    return composed(composed(name).casefold())
