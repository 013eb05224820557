"""OpenAPI of a bundle that is served, and the same as a page that loads nothing."""

from __future__ import annotations

import html
import json
from typing import Any

from pydantic.json_schema import models_json_schema

from compress import __version__
from compress.serve.model import ServedModel
from compress.serve.settings import Settings

REF = "#/components/schemas/{model}"
JSON = "application/json"
ERROR = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "where"],
            "properties": {
                "code": {"type": "string", "description": "a word for programs"},
                "message": {"type": "string"},
                "where": {"type": "string", "description": "the field, header or path that is wrong"},
            },
        }
    },
}
REFUSALS = {
    "400": "The body is not JSON in UTF-8.",
    "408": "The body was not there in time.",
    "413": "The body has too many bytes.",
    "415": "The body is of another type, or compressed.",
    "422": "A field is missing, unknown, or has a value that cannot be used.",
    "429": "The queue is full; Retry-After says in how many seconds to try again.",
    "500": "A fault of the server or its bundle.",
    "504": "No answer in time.",
}
READY: dict[str, Any] = {
    "type": "object",
    "required": ["ready", "bundle", "runtime", "threads", "batch_difference", "together", "reload_refused"],
    "properties": {
        "ready": {"type": "boolean"},
        "bundle": {
            "type": "object",
            "required": ["name", "task", "digest"],
            "properties": {name: {"type": "string"} for name in ("name", "task", "digest")},
        },
        "runtime": {"type": "string", "description": "what runs the model"},
        "threads": {"type": "integer", "description": "of the model, in each worker, as the runtime took them"},
        "batch_difference": {
            "type": "number",
            "description": "largest change of a logit of the golden requests when they are asked together",
        },
        "together": {
            "type": "boolean",
            "description": "whether texts of several requests share a call: where golden requests are quicker so",
        },
        "reload_refused": {"type": ["string", "null"], "description": "why the last new bundle was not taken"},
    },
}
HEALTH: dict[str, Any] = {
    "type": "object",
    "required": ["status", "version"],
    "properties": {"status": {"const": "ok"}, "version": {"type": "string"}},
}


def openapi(model: ServedModel, settings: Settings) -> dict[str, Any]:
    """The OpenAPI 3.1 document; its schemas are the bundle's own fields and labels."""
    forms = model.forms
    asked = [form for form in (forms.one, forms.many, forms.rank) if form is not None]
    given = [form for form in (forms.answer, forms.answers, forms.rank_answer) if form is not None]
    modes = [*((form, "validation") for form in asked), *((form, "serialization") for form in given)]
    _, schemas = models_json_schema(modes, ref_template=REF)  # type: ignore[arg-type]  # modes are literals
    components = {**schemas.get("$defs", {}), "Error": ERROR}
    paths: dict[str, Any] = {
        "/v1/predict": _post(
            "One request or many",
            [_ref(forms.one.__name__), _ref(forms.many.__name__)],
            [_ref(forms.answer.__name__), _ref(forms.answers.__name__)],
        )
    }
    if forms.rank is not None and forms.rank_answer is not None:
        paths["/v1/rank"] = _post(
            "Candidates in the order in which they suit a query",
            [_ref(forms.rank.__name__)],
            [_ref(forms.rank_answer.__name__)],
        )
    ready = _get("Whether it serves, and which bundle", READY)
    ready["get"]["responses"]["503"] = {"description": "It is stopping.", "content": _content(READY)}
    paths |= {"/health": _get("Whether the process lives", HEALTH), "/ready": ready}
    paths["/metrics"] = {"get": {"summary": "For Prometheus", "responses": {"200": _text("text/plain")}}}
    paths["/docs"] = {"get": {"summary": "This, as a page", "responses": {"200": _text("text/html")}}}
    paths["/openapi.json"] = _get("This", {"type": "object"})
    limits = f"At most {settings.max_rows:,} texts and {settings.max_bytes:,} bytes in one request."
    return {
        "openapi": "3.1.0",
        "info": {"title": model.manifest.name, "version": __version__, "description": limits},
        "paths": paths,
        "components": {"schemas": components},
    }


def page(document: dict[str, Any]) -> str:
    """The document as HTML that needs no script and nothing from elsewhere."""
    info = document["info"]
    operations = [
        f"<h2><code>{method.upper()} {path}</code></h2><p>{_safe(operation['summary'])}</p>{_told(operation)}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = [
        f'<h3 id="{_safe(name)}">{_safe(name)}</h3><pre>{_safe(json.dumps(schema, indent=2, ensure_ascii=False))}</pre>'
        for name, schema in document["components"]["schemas"].items()
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<title>{_safe(info['title'])}</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:50rem;margin:2rem auto;padding:0 1rem}"
        "pre{overflow:auto;padding:.5rem;border:1px solid}</style>"
        f"<h1>{_safe(info['title'])}</h1><p>{_safe(info['description'])}"
        ' For programs: <a href="openapi.json">openapi.json</a>.</p>'
        + "".join(operations)
        + "<h2>Schemas</h2>"
        + "".join(schemas)
        + "</html>"
    )


def _told(operation: dict[str, Any]) -> str:
    rows = [(status, answer["description"]) for status, answer in operation["responses"].items()]
    asked = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("schema", {})
    names = [way["$ref"].rpartition("/")[2] for way in asked.get("anyOf", [asked] if asked else [])]
    links = " or ".join(f'<a href="#{_safe(name)}">{_safe(name)}</a>' for name in names)
    answers = "".join(f"<li>{status}: {_safe(description)}</li>" for status, description in rows)
    return (f"<p>Body: {links}</p>" if links else "") + f"<ul>{answers}</ul>"


def _safe(text: str) -> str:
    return html.escape(text)


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": REF.format(model=name)}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {JSON: {"schema": schema}}


def _text(kind: str) -> dict[str, Any]:
    return {"description": "Text.", "content": {kind: {"schema": {"type": "string"}}}}


def _get(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": {"200": {"description": "Always.", "content": _content(schema)}}}}


def _post(summary: str, asked: list[dict[str, Any]], given: list[dict[str, Any]]) -> dict[str, Any]:
    def of(ways: list[dict[str, Any]]) -> dict[str, Any]:
        return _content(ways[0] if len(ways) == 1 else {"anyOf": ways})

    refusals: dict[str, Any] = {
        status: {"description": told, "content": _content(_ref("Error"))} for status, told in REFUSALS.items()
    }
    refusals["429"]["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": of(asked)},
            "responses": {"200": {"description": "In the order asked.", "content": of(given)}, **refusals},
        }
    }
