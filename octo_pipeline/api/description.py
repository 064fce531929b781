"""What OpenAPI says of the API beyond its routes, and the page that shows it to people.

Every route may answer with a problem, every change takes a key under which it is done once, and every list comes in several
formats. So that is said here once, as are the examples of what stands in addresses.
"""

import base64
import hashlib
import json
import shlex
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from octo_pipeline.api.listing import JSON, MEDIA_TYPES
from octo_pipeline.api.repeats import CHANGES, HEADER
from octo_pipeline.model.html import html_template

_DOCS = "/api/docs"
# Of what stands in addresses, by its name.
_EXAMPLES = {
    "account": "111122223333",
    "allocator_id": "support",
    "cost_group_id": "shop",
    "from": "2024-02",
    "item_id": "0a1b2c3d",
    "key": "account",
    "metric_id": "seats",
    "mode": "merge",
    "month": "2024-01",
    "name": "mia",
    "operation_id": "0a1b2c3d4e5f",
    "owner": "account/111122223333",
    "token_id": "0a1b2c3d",
    "version": "0a1b2c3d",
}
_PROBLEMS = {
    "401": "The token is missing or not valid.",
    "403": "The role of the token's user is not enough, or they may see some cost groups only.",
    "404": "What the address names does not exist.",
    "409": "The state of what is asked for does not allow it.",
    "412": "Somebody changed the document in the meantime.",
    "422": "The request is not valid, or cannot be done.",
    "429": "Too many requests.",
    "503": "The lake, the registry or the configuration is not available.",
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457: what is wrong, where, and what helps.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:octo:month-not-made"]},
        "title": {"type": "string", "examples": ["month not made"]},
        "status": {"type": "integer", "examples": [404]},
        "detail": {"type": "string", "examples": ["The lake has no account costs of 2024-01."]},
        "code": {"type": "string", "examples": ["month-not-made"]},
        "place": {"type": "string", "description": "The file, setting, account or month that is wrong."},
        "remedies": {"type": "array", "items": {"type": "object"}},
        "problems": {"type": "array", "items": {"type": "object"}, "description": "Everything wrong in a document."},
    },
}
# What else than JSON is answered, by the end of the address.
_FILES = {
    "/focus": ("application/vnd.apache.parquet", "application/gzip"),
    "/statements/{owner}": ("application/pdf", "text/html"),
    "/events": ("text/event-stream",),
    "/statements.zip": ("application/zip",),
}
_HEADERS = {
    HEADER: "Any text; sent again under the same one within a day, the change is done once.",
    "If-Match": "The version (ETag) of the document that is replaced or removed.",
}


def describe(app: FastAPI) -> None:
    """Complete the description of the application, and offer it to people as a page."""
    plain = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            description = plain()
            for path, methods in description["paths"].items():
                for method, operation in methods.items():
                    _complete(path, method.upper(), operation)
            schemas = description.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = _PROBLEM
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
        return app.openapi_schema or {}

    app.openapi = complete  # type: ignore[method-assign]

    @app.get(_DOCS, include_in_schema=False)
    def docs() -> HTMLResponse:
        """The description as a page; it needs no token, as it says nothing of anybody's costs."""
        template = html_template("api/docs.html.j2")
        text = template.render(description=app.openapi(), tags=_by_tag(app.openapi()), problems=_PROBLEMS)
        style = text.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        schema = parameter["schema"]
        example = next(iter([*schema.get("examples", []), *schema.get("enum", [])]), _EXAMPLES.get(parameter["name"]))
        if example is not None and parameter.get("required"):
            parameter["example"] = example
    if method in CHANGES:
        names = [HEADER]
        if method in ("PUT", "DELETE") and path.endswith(("/{allocator_id}", "/{cost_group_id}")):
            names.append("If-Match")
        parameters += [
            {
                "name": name,
                "in": "header",
                "required": False,
                "description": _HEADERS[name],
                "schema": {"type": "string"},
            }
            for name in names
        ]
    responses = operation["responses"]
    if any(parameter["name"] == "cursor" for parameter in parameters):
        responses["200"]["content"] = {
            name: {"schema": {} if name == JSON else {"type": "string"}} for name in MEDIA_TYPES
        }
        responses["406"] = _problem("The list is not offered as what Accept names.")
    for end, media_types in _FILES.items():
        if path.endswith(end):
            responses["200"]["content"] = {name: {"schema": {"type": "string"}} for name in media_types}
    if method == "PUT" and "201" not in responses and "200" in responses:
        responses["201"] = responses["200"] | {"description": "Saved as a new one."}
    responses |= {status: _problem(sentence) for status, sentence in _PROBLEMS.items()}


def _problem(sentence: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": sentence, "content": {"application/problem+json": {"schema": schema}}}


def _by_tag(description: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The operations of each resource, each with a command that asks for its example."""
    tags: dict[str, list[dict[str, Any]]] = {}
    schemas = description["components"]["schemas"]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            entry = operation | {"method": method.upper(), "path": path}
            entry["body"] = example_body(operation, schemas)
            entry["command"] = _command(entry)
            tags.setdefault(operation["tags"][0], []).append(entry)
    return tags


def example_body(operation: dict[str, Any], schemas: dict[str, Any]) -> tuple[str, str] | None:
    """The media type and the text of the example of an operation's body; None if it has none."""
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        named = [example["value"] for example in content.get("examples", {}).values()]
        example = content.get("example", [*named, *schema.get("examples", []), None][0])
        return media_type, example if isinstance(example, str) else json.dumps(example)
    return None


def example_address(path: str, operation: dict[str, Any]) -> str:
    """The address of an operation with the examples of what it needs."""
    query = {}
    for parameter in operation["parameters"]:
        if parameter.get("required"):
            # One that has none is shown as its name.
            value = str(parameter.get("example", f"{{{parameter['name']}}}"))
            path = path.replace(f"{{{parameter['name']}}}", quote(value))
            if parameter["in"] == "query":
                query[parameter["name"]] = value
    return f"{path}?{urlencode(query)}" if query else path


def _command(entry: dict[str, Any]) -> str:
    parts = ["curl", "-H", '"Authorization: Bearer $TOKEN"']
    if entry["method"] != "GET":
        parts += ["-X", entry["method"]]
    if entry["body"]:
        media_type, text = entry["body"]
        parts += ["-H", shlex.quote(f"Content-Type: {media_type}"), "--data-binary", shlex.quote(text)]
    address = example_address(entry["path"], entry)
    return " ".join([*parts, f'"http://127.0.0.1:8000{address}"'])
