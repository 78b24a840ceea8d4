"""The table of training options in docs/training.md, from their declarations.

python -m retrieval.training.options_table
"""

import re
from pathlib import Path

from retrieval.data import files
from retrieval.data.options import Option
from retrieval.training.config import OPTIONS, RULES

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"
BLOCK = re.compile(r"(?<=<!-- options -->\n).*(?=<!-- /options -->)", re.DOTALL)
ON_RESUME = {
    "keep": "kept, unless given again",
    "fixed": "cannot change",
    "free": "as given",
}


def markdown() -> str:
    """Return a table for each group: option, default, meaning, and the rule for resumed runs."""
    lines: list[str] = []
    groups = dict.fromkeys(option.group for option in OPTIONS.values())
    for group in groups:
        lines += ["", f"### {str(group).capitalize()}", ""]
        lines += ["| option | default | meaning | resumed run |", "|---|---|---|---|"]
        for name, option in OPTIONS.items():
            if option.group == group:
                lines.append(_row(name, option))
    return "\n".join(lines) + "\n\n"


def _row(name: str, option: Option) -> str:
    default = "" if option.default is None else f"`{option.default}`"
    meaning = f"{option.help} ({option.range})" if option.range else option.help
    return f"| `--{name}` | {default} | {meaning} | {ON_RESUME[RULES[name].on_resume]} |"


def main() -> None:
    """Write the table into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    files.write_text(DOCUMENT, BLOCK.sub(lambda _: markdown(), text))


if __name__ == "__main__":
    main()
