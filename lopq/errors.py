"""The library's error."""


class LOPQError(ValueError):
    """An error that the caller can fix: a shape, a value, a file."""
