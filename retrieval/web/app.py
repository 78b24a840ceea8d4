"""The application: page, API, health and metrics in one program."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from retrieval.store.base import StoreFailure
from retrieval.web.errors import add_error_handlers
from retrieval.web.image_database import ImageDatabase
from retrieval.web.middleware import protection
from retrieval.web.middleware.proxies import HeadAsGet, KnownHosts, UnderPrefix
from retrieval.web.routes import add, api, images, pages
from retrieval.web.routes.parameters import documented
from retrieval.web.search_service import WAITING, SearchService
from retrieval.web.service_metrics import ServiceMetrics
from retrieval.web.templating import STATIC


def create_app(
    database: ImageDatabase,
    token: str | None = None,
    allowed_hosts: Sequence[str] = ("*",),
    waiting: int = WAITING,
    root_path: str = "",
) -> FastAPI:
    """Return the application.

    Args:
        database: The image database.
        token: What a client must send to add and remove images; None: nobody can.
        allowed_hosts: Names by which a browser may call this server, ``*`` for any; others are
            refused, so that a foreign page cannot rebind its name to this address.
        waiting: Requests that are worked on or wait; more get 503.
        root_path: What a proxy puts before all paths, such as ``/cars``.
    """
    metrics = ServiceMetrics()
    service = SearchService(database, metrics, waiting)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # The documentation page of FastAPI loads scripts from elsewhere; /openapi.json does not.
    app = FastAPI(
        title="Image search",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # such a redirect names a host, which a proxy may have changed
        lifespan=lifespan,
    )
    app.state.service, app.state.token, app.state.root_path = service, token, root_path
    for router in (api.router, add.router, images.router, pages.router):
        app.include_router(router)
    _add_health(app, service, metrics)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    add_error_handlers(app)
    app.add_middleware(protection.BodyLimit)
    app.add_middleware(protection.OwnFormsOnly)
    app.add_middleware(KnownHosts, allowed=allowed_hosts)
    app.add_middleware(protection.SecureHeaders, metrics=metrics)
    app.add_middleware(HeadAsGet)
    app.add_middleware(UnderPrefix, prefix=root_path)
    return app


def _add_health(app: FastAPI, service: SearchService, metrics: ServiceMetrics) -> None:
    @app.get(
        "/healthz",
        tags=["operation"],
        summary="Whether the store answers",
        responses=documented(503),
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
        metrics.waiting.set(service.slots.taken)
        try:
            metrics.images.set((await service.facets()).total())
        except StoreFailure:
            metrics.images.set(0)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
