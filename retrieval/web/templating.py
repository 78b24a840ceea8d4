"""Pages from templates. Everything that comes from outside is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from retrieval.photo_search.boxes import box_text
from retrieval.photo_search.prediction import headline, percent

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"

_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates", encoding="utf-8"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"percent": percent, "box_text": box_text}
_environment.globals |= {"headline": headline}


def render(
    request: Request, template: str, http_status: int = 200, /, **content: object
) -> HTMLResponse:
    """Return a page.

    Args:
        request: What it answers.
        template: Name of a file in ``templates``.
        http_status: Status of the response.
        content: Values of the template.
    """
    page = _environment.get_template(template)
    return HTMLResponse(page.render(root=request.app.state.root_path, **content), http_status)
