"""The page: choose a photo, see the answers, browse. All of it works without JavaScript."""

import time

import numpy as np
from fastapi import APIRouter, Depends, Request
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, RedirectResponse, Response

from retrieval.data.formats import InputError
from retrieval.photo_search.filters import Filters
from retrieval.store.base import StoreFailure
from retrieval.web.errors import without_dashes
from retrieval.web.facets import menus_of
from retrieval.web.query import find_query
from retrieval.web.routes.parameters import Service, Takes, check_names
from retrieval.web.search_options import OPTIONS, SearchOptions
from retrieval.web.search_service import NAME
from retrieval.web.templating import render

SAMPLES = 12  # cars to start with
PAGE = 48  # images of one page of a model

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/", dependencies=[Depends(Takes())])
async def start(request: Request, service: Service) -> HTMLResponse:
    database = service.database
    ids = await service.in_thread(database.store.ids)
    chosen = ids[np.linspace(0, len(ids) - 1, min(SAMPLES, len(ids))).astype(int)].tolist()
    rows = await service.in_thread(database.store.get, chosen)
    menus = menus_of(await service.facets())
    return render(request, "start.html", rows=rows, menus=menus, n_image=len(ids))


@router.post("/search", dependencies=[Depends(Takes())])
async def upload(request: Request, service: Service) -> Response:
    """Store an upload and redirect to its answers, so that the page can be reloaded."""
    async with request.form(max_files=1, max_fields=20) as form:
        check_names(form.multi_items(), ("photo", *OPTIONS))
        photo = form.get("photo")
        options = SearchOptions.of_form(form)
        content = await photo.read() if isinstance(photo, UploadFile) else b""
    if not content:
        raise InputError("choose a photo first")
    with service.slots.take():
        key = await service.cache(content, options.part)
    query = options.query_string(photo=key)
    return RedirectResponse(f"{request.app.state.root_path}/search?{query}", status_code=303)


@router.get("/search", dependencies=[Depends(Takes("photo", "id", *OPTIONS))])
async def answers(
    service: Service, request: Request, photo: str = "", id: str = ""
) -> HTMLResponse:
    source = await find_query(service, photo, id)
    exclude_id = None if source.row is None else source.row.id
    options, result, error_text = SearchOptions(), None, None
    started = time.perf_counter()
    try:
        options = SearchOptions.of_form(request.query_params)
        with service.slots.take():
            embedding, _ = await source.embed(service, options.part)
            result = await service.search(embedding, options, exclude_id)
    except StoreFailure:
        raise
    except InputError as error:  # the form is still of use
        error_text = without_dashes(str(error))
    seconds = time.perf_counter() - started
    facets = await service.facets()
    return render(
        request,
        "answers.html",
        200 if error_text is None else 400,
        source=source,
        options=options,
        result=result,
        seconds=seconds,
        error=error_text,
        menus=menus_of(facets),
        n_image=facets.total(),
        is_calibrated=service.database.engine.calibration is not None,
    )


@router.get("/browse", dependencies=[Depends(Takes("make", "model", "page"))])
async def browse(
    request: Request, service: Service, make: str = "", model: str = "", page: str = "1"
) -> Response:
    """Show makes and models, or the images of one model or of one make."""
    store, facets = service.database.store, await service.facets()
    menus, filters = menus_of(facets), Filters(make.strip() or None, model.strip() or None)
    number = int(page) if page.isascii() and page.isdecimal() and len(page) < 9 else 1
    ids = await service.in_thread(store.ids, filters.where(facets, NAME))
    n_page = max(1, -(-len(ids) // PAGE))
    number = min(max(number, 1), n_page)
    shown = ids[(number - 1) * PAGE : number * PAGE].tolist()
    is_list = not (make or model) and bool(menus.models)
    return render(
        request,
        "browse.html",
        menus=menus,
        make=make,
        model=model,
        is_list=is_list,
        rows=[] if is_list else await service.in_thread(store.get, shown),
        n_image=len(ids),
        page=number,
        n_page=n_page,
    )


@router.get("/why", dependencies=[Depends(Takes("photo", "id", "answer", *OPTIONS))])
async def why(service: Service, request: Request, photo: str = "", id: str = "") -> HTMLResponse:
    """Show where the similarity of a photo and an answer comes from."""
    source = await find_query(service, photo, id)
    answer = await find_query(service, "", request.query_params.get("answer", ""))
    options = SearchOptions.of_form(request.query_params)
    embedding, _ = await source.embed(service, options.part)
    assert answer.row is not None
    return render(
        request,
        "why.html",
        source=source,
        row=answer.row,
        options=options,
        similarity=float(embedding @ answer.row.embedding),
    )
