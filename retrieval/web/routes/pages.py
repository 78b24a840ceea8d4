"""The page: choose a photo, see the answers, browse. All of it works without JavaScript."""

import time
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends, Request
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, RedirectResponse, Response

from retrieval.data.formats import InputError
from retrieval.store.filters import Filter
from retrieval.web.facets import has_names, menus_of
from retrieval.web.parameters import Takes, check_names
from retrieval.web.query import QueryPhoto, find_query
from retrieval.web.routes.api import Service
from retrieval.web.search_options import SearchOptions, parsed_options, without_dashes
from retrieval.web.search_service import SearchService
from retrieval.web.templating import render

SAMPLES = 12  # cars to start with
PAGE = 48  # images of one page of a model
OPTIONS = ("k", "at_least", "make", "model", "year", "viewpoint", "box")

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


def _options(texts: Any) -> SearchOptions:
    given = {name: str(texts.get(name, ""))[:200] for name in OPTIONS}
    return parsed_options(**given)


@router.get("/", dependencies=[Depends(Takes())])
async def start(request: Request, service: Service) -> HTMLResponse:
    database = service.database
    ids = await service.in_thread(database.ids, Filter())
    chosen = ids[np.linspace(0, len(ids) - 1, min(SAMPLES, len(ids))).astype(int)].tolist()
    rows = await service.in_thread(database.rows, chosen)
    facets = await service.facets()
    return render(
        request,
        "start.html",
        rows=rows,
        menus=menus_of(facets),
        n_image=len(ids),
        has_names=has_names(facets),
    )


@router.post("/search", dependencies=[Depends(Takes())])
async def upload(request: Request, service: Service) -> Response:
    """Store an upload and redirect to its answers, so that the page can be reloaded."""
    async with request.form(max_files=1, max_fields=20) as form:
        check_names(form.multi_items(), ("photo", *OPTIONS))
        photo = form.get("photo")
        options = _options(form)
        content = await photo.read() if isinstance(photo, UploadFile) else b""
    if not content:
        raise InputError("choose a photo first")
    with service.slots.take():
        key = await service.keep(content, options)
    query = options.query_string(photo=key)
    return RedirectResponse(f"{request.app.state.root_path}/search?{query}", status_code=303)


@router.get("/search", dependencies=[Depends(Takes("photo", "id", *OPTIONS))])
async def answers(
    service: Service, request: Request, photo: str = "", id: str = ""
) -> HTMLResponse:
    source = await find_query(service, photo, id)
    page: dict[str, Any] = {"error": None, "result": None}
    options = SearchOptions()
    status, started = 200, time.perf_counter()
    try:
        options = _options(request.query_params)
        with service.slots.take():
            embedding, _ = await source.embed(service, options.box)
            exclude_id = source.row.id if source.row is not None else None
            page["result"] = await service.search(embedding, options, exclude_id, started)
    except InputError as error:  # the form is still of use
        page["error"], status = without_dashes(str(error)), 400
    return await _answer_page(request, service, source, options, status, page)


async def _answer_page(
    request: Request,
    service: SearchService,
    source: QueryPhoto,
    options: SearchOptions,
    status: int,
    page: dict[str, Any],
) -> HTMLResponse:
    facets = await service.facets()
    return render(
        request,
        "answers.html",
        status,
        source=source,
        options=options,
        menus=menus_of(facets),
        has_names=has_names(facets),
        n_image=facets.total(),
        is_calibrated=service.database.calibration is not None,
        **page,
    )


@router.get("/browse", dependencies=[Depends(Takes("make", "model", "page"))])
async def browse(
    request: Request, service: Service, make: str = "", model: str = "", page: str = "1"
) -> Response:
    """Show makes and models, or the images of one model or of one make."""
    database = service.database
    facets = await service.facets()
    chosen = SearchOptions(make=make, model=model)
    number = int(page) if page.isascii() and page.isdecimal() and len(page) < 9 else 1
    ids = await service.in_thread(database.ids, chosen.where(facets))
    n_page = max(1, -(-len(ids) // PAGE))
    number = min(max(number, 1), n_page)
    shown = ids[(number - 1) * PAGE : number * PAGE].tolist()
    is_list = not (make or model) and has_names(facets)
    return render(
        request,
        "browse.html",
        menus=menus_of(facets),
        make=make,
        model=model,
        is_list=is_list,
        rows=[] if is_list else await service.in_thread(database.rows, shown),
        n_image=len(ids),
        page=number,
        n_page=n_page,
        has_names=has_names(facets),
    )


@router.get("/why", dependencies=[Depends(Takes("photo", "id", "answer", *OPTIONS))])
async def why(service: Service, request: Request, photo: str = "", id: str = "") -> HTMLResponse:
    """Show where the similarity of a photo and an answer comes from."""
    source = await find_query(service, photo, id)
    answer = await find_query(service, "", request.query_params.get("answer", ""))
    options = _options(request.query_params)
    embedding, _ = await source.embed(service, options.box)
    assert answer.row is not None
    return render(
        request,
        "why.html",
        source=source,
        row=answer.row,
        options=options,
        similarity=float(embedding @ answer.row.embedding),
        has_names=has_names(await service.facets()),
    )
