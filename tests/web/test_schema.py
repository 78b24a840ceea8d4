"""Calls made from the OpenAPI schema: no 500, and every answer is what the schema says."""

from collections import Counter
from pathlib import Path

import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.web.conftest import AUTHORIZED, TOKEN, App, drawn_photo

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CALLS = 8  # of each operation and kind
OPERATIONS = {
    *(("POST", "/api/search"), ("GET", "/api/search"), ("POST", "/api/images")),
    *(("GET", "/api/images/{number}"), ("DELETE", "/api/images/{number}")),
    *(("GET", "/images/{number}"), ("GET", "/healthz"), ("GET", "/metrics")),
}


def test_answers_are_what_the_schema_says(served: Path, app: App) -> None:
    client = app(served, token=TOKEN)
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    found = [one.ok() for one in schema.get_all_operations()]
    assert {(one.method.upper(), one.path) for one in found} == OPERATIONS
    statuses: Counter[int] = Counter()
    for operation in found:
        _call(operation, client, GenerationMode.POSITIVE, statuses)
        if operation.path not in ("/healthz", "/metrics"):  # these take nothing
            _call(operation, client, GenerationMode.NEGATIVE, statuses)
        if operation.method == "post":
            _call(operation, client, GenerationMode.POSITIVE, statuses, drawn_photo())
    assert {200, 422} <= set(statuses), statuses


def _call(
    operation: APIOperation,
    client: TestClient,
    kind: GenerationMode,
    statuses: Counter[int],
    photo: bytes | None = None,
) -> None:
    """Make calls of one operation, which the schema allows or not; ``photo`` is sent if given."""

    @settings(
        max_examples=CALLS,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=kind))
    def call(case: Case) -> None:
        if photo is not None:
            case.body = {"photo": photo}
        response = case.call(session=client, headers=AUTHORIZED)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    call()
