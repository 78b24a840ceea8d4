"""The error of every check of what a person gave: a file, a column, a value."""


class InputError(ValueError):
    """An error that the user can fix: a file, a column, a value."""
