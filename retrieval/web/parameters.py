"""Parameters of addresses and forms: one that is unknown or given twice is refused.

A filter with a typing error would otherwise give answers without the filter.
"""

import difflib
from collections import Counter
from collections.abc import Iterable

from fastapi import HTTPException, Request
from starlette.datastructures import FormData


class Takes:
    """A dependency of a route: its address takes these parameters, each once."""

    def __init__(self, *names: str) -> None:
        self.names = names

    async def __call__(self, request: Request) -> None:
        check_names(request.query_params.multi_items(), self.names)


async def check_photo_form(request: Request) -> None:
    """Refuse a form that has anything but one photo: options are parameters of the address."""
    form: FormData = await request.form()
    for name in form:
        if name != "photo":
            short = name[:80]
            text = f"{short}: not a field of the form; give it in the address, as ?{short}=..."
            raise HTTPException(422, text)
    check_names(form.multi_items(), ("photo",))


def check_names(given: Iterable[tuple[str, object]], known: tuple[str, ...]) -> None:
    """Refuse names that are unknown or come twice.

    Raises:
        HTTPException: 422; it says what there is.
    """
    for name, times in Counter(name for name, _ in given).items():
        if name not in known:
            text = f"{name[:80]}: there is no such parameter{_instead(name, known)}"
            raise HTTPException(422, text)
        if times > 1:
            raise HTTPException(422, f"{name}: it can be given once")


def _instead(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are: {', '.join(known)}" if known else "; this address takes none"
