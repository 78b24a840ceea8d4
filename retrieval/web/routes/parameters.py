"""Parameters and dependencies of routes. Unknown and repeated parameters are refused.

A filter with a typing error would otherwise give answers without the filter.
"""

import difflib
import secrets
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import Depends, File, Header, HTTPException, Path, Request, UploadFile
from starlette.datastructures import FormData

from retrieval.store.rows import LARGEST_ID
from retrieval.web.api_models import ApiError
from retrieval.web.search_service import SearchService

ImageId = Annotated[int, Path(ge=0, le=LARGEST_ID, description="id of an image of the database")]
Upload = Annotated[UploadFile, File(description="JPEG, PNG, WEBP, GIF or BMP")]

ERRORS = {
    400: "a value is wrong",
    401: "the token is missing or wrong",
    403: "the server takes no changes",
    404: "there is no such image",
    408: "the body took too long",
    413: "the body is too large",
    415: "the photo cannot be read",
    422: "a value is missing, of another type or out of range",
    503: "too many requests wait, or the store does not answer",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return errors as the schema describes them."""
    return {code: {"model": ApiError, "description": ERRORS[code]} for code in statuses}


OF_SEARCHES = documented(400, 404, 408, 413, 415, 422, 503)
OF_CHANGES = OF_SEARCHES | documented(401, 403)


# Dependencies are coroutines: others would each go through a thread.
async def _service_of(request: Request) -> SearchService:
    found: SearchService = request.app.state.service
    return found


async def _root_of(request: Request) -> str:
    found: str = request.app.state.root_path
    return found


Service = Annotated[SearchService, Depends(_service_of)]
Root = Annotated[str, Depends(_root_of)]  # path prefix of a proxy


async def check_token(
    request: Request, authorization: Annotated[str | None, Header()] = None
) -> None:
    """Refuse a request that may not change the database."""
    token: str | None = request.app.state.token
    if token is None:
        raise HTTPException(403, "adding and removing are off; start the server with --token")
    expected = f"Bearer {token}".encode()
    if authorization is None or not secrets.compare_digest(authorization.encode(), expected):
        raise HTTPException(
            401, "send the header Authorization: Bearer <token>", {"WWW-Authenticate": "Bearer"}
        )


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
