"""Errors as JSON to programs and as a page to people."""

import logging
import re
import tempfile

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from retrieval.data.formats import InputError
from retrieval.photo_search.preprocessing import UnreadablePhoto
from retrieval.store.base import StoreFailure
from retrieval.store.lance.files import is_full
from retrieval.web.batching import Busy
from retrieval.web.search_options import first_error
from retrieval.web.templating import render

log = logging.getLogger(__name__)

RETRY_S = 1


def add_error_handlers(app: FastAPI) -> None:
    """Register handlers that answer errors with a status and one line."""

    @app.exception_handler(InputError)
    async def bad_input(request: Request, error: InputError) -> Response:
        status = 415 if isinstance(error, UnreadablePhoto) else 400
        return error_response(request, status, without_dashes(str(error)))

    @app.exception_handler(RequestValidationError)
    async def bad_value(request: Request, error: RequestValidationError) -> Response:
        return error_response(request, 422, first_error(error.errors()))

    @app.exception_handler(OSError)
    async def no_room(request: Request, error: OSError) -> Response:
        if not is_full(error):
            raise error
        log.error("no room for an upload in %s", tempfile.gettempdir())
        text = "the server's disk for temporary files is full; try again when there is room"
        return error_response(request, 503, text, {"Retry-After": str(RETRY_S)})

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, OSError):  # while a form was read
            return await no_room(request, error.__cause__)
        headers = dict(error.headers or {})
        return error_response(request, error.status_code, str(error.detail), headers)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Response:
        text = "too many searches at once; try again in a moment"
        return error_response(request, 503, text, {"Retry-After": str(RETRY_S)})

    @app.exception_handler(StoreFailure)
    async def no_store(request: Request, error: StoreFailure) -> Response:
        log.error("%s", error)
        return error_response(request, 503, str(error), {"Retry-After": str(RETRY_S)})

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        text = "something went wrong here; the server's log says what"
        return error_response(request, 500, text)


def without_dashes(text: str) -> str:
    """Return a message of a command line for a page, which has fields and no flags.

    >>> without_dashes("--box=1,2: give x1,y1,x2,y2")
    'box=1,2: give x1,y1,x2,y2'
    """
    return re.sub(r"(?<!\w)--(?=\w)", "", text)


def error_response(
    request: Request, status: int, text: str, headers: dict[str, str] | None = None
) -> Response:
    """Return an error: a page if the client is a browser that does not call the API."""
    wants_page = "text/html" in request.headers.get("accept", "")
    path = request.url.path.removeprefix(request.app.state.root_path)
    if path.startswith("/api/") or not wants_page:
        return JSONResponse({"error": text}, status, headers)
    page = render(request, "error.html", status, status=status, text=text)
    page.headers.update(headers or {})
    return page
