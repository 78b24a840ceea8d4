"""The application: page, API, health and metrics in one program."""

import logging
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from retrieval.data.formats import InputError
from retrieval.store.lance_files import is_full
from retrieval.web import api, pages, pictures, protection
from retrieval.web.batching import Busy
from retrieval.web.gallery import Gallery, StoreFailure
from retrieval.web.search_options import without_dashes
from retrieval.web.search_service import WAITING, SearchService
from retrieval.web.service_metrics import ServiceMetrics
from retrieval.web.templating import STATIC, render
from retrieval.web.uploads import UnsupportedPhoto

log = logging.getLogger(__name__)

RETRY_S = 1


def create_app(
    gallery: Gallery,
    token: str | None = None,
    allowed_hosts: Sequence[str] = ("*",),
    waiting: int = WAITING,
) -> FastAPI:
    """Return the application.

    Args:
        gallery: The image database.
        token: What a client must send to add and remove images; None: nobody can.
        allowed_hosts: Names by which a browser may call this server; others are refused, so that
            a foreign page cannot rebind its name to this address.
        waiting: Requests that are worked on or wait; more get 503.
    """
    metrics = ServiceMetrics()
    service = SearchService(gallery, metrics, waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # The documentation page of FastAPI loads scripts from elsewhere; /openapi.json does not.
    app = FastAPI(
        title="Image search", version="1", docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.state.service, app.state.token = service, token
    for router in (api.router, pictures.router, pages.router):
        app.include_router(router)
    _add_health(app, service, metrics)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    _add_errors(app)
    app.add_middleware(protection.BodyLimit)
    app.add_middleware(protection.OwnFormsOnly)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts))
    app.add_middleware(protection.SecureHeaders, metrics=metrics)
    return app


def _add_health(app: FastAPI, service: SearchService, metrics: ServiceMetrics) -> None:
    @app.get(
        "/healthz",
        tags=["operation"],
        summary="Whether the store answers",
        responses=api.documented(503),
    )
    async def healthz() -> dict[str, int]:
        return {"images": (await service.facets()).total()}

    @app.get(
        "/metrics",
        tags=["operation"],
        summary="Counts and times, for Prometheus",
        response_class=PlainTextResponse,
    )
    async def prometheus() -> Response:
        metrics.waiting.set(service.room.taken)
        try:
            metrics.images.set((await service.facets()).total())
        except StoreFailure:
            metrics.images.set(0)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(InputError)
    async def bad_input(request: Request, error: InputError) -> Response:
        status = 415 if isinstance(error, UnsupportedPhoto) else 400
        return _error(request, status, without_dashes(str(error)))

    @app.exception_handler(RequestValidationError)
    async def bad_value(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _error(request, 422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(OSError)
    async def no_room(request: Request, error: OSError) -> Response:
        if not is_full(error):
            raise error
        log.error("no room for an upload in %s", tempfile.gettempdir())
        text = "the server's disk for temporary files is full; try again when there is room"
        return _error(request, 503, text, {"Retry-After": str(RETRY_S)})

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, OSError):  # while a form was read
            return await no_room(request, error.__cause__)
        return _error(request, error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Response:
        text = "too many searches at once; try again in a moment"
        return _error(request, 503, text, {"Retry-After": str(RETRY_S)})

    @app.exception_handler(StoreFailure)
    async def no_store(request: Request, error: StoreFailure) -> Response:
        return _error(request, 503, str(error), {"Retry-After": str(RETRY_S)})

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        return _error(request, 500, "something went wrong here; the server's log says what")


def _error(
    request: Request, status: int, text: str, headers: dict[str, str] | None = None
) -> Response:
    """Return an error as JSON to programs, and as a page to people."""
    wants_page = "text/html" in request.headers.get("accept", "")
    if request.url.path.startswith("/api/") or not wants_page:
        return JSONResponse({"error": text}, status, headers)
    page = render("error.html", status, status=status, text=text, has_names=True)
    page.headers.update(headers or {})
    return page
