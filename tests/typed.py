"""Commands of messages, run as they are typed."""

import importlib
import shlex


def type_commands(text: str) -> None:
    """Run commands that are joined by ``&&``, in this process."""
    for line in text.split(" && "):
        first, *words = shlex.split(line)
        assert first == "python", line
        is_module = words[0] == "-m"
        name = words[1] if is_module else words[0].removesuffix(".py")
        stage = importlib.import_module(name)
        assert stage.main(words[2:] if is_module else words[1:]) == 0, line
