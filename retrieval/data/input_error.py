"""The error of invalid user input: a file, a column, a value."""


class InputError(ValueError):
    """An error that the user can fix: a file, a column, a value."""
