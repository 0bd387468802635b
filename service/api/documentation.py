"""Serve the OpenAPI schema, its two pages and their files, all without third parties."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme, Tag
from litestar.params import FromPath
from litestar.response import File
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler

from service.api.problems import PROBLEM_PATH, PROBLEMS
from service.api.schema_document import SchemaDocument

TITLE = "feature-agent"
DESCRIPTION = """\
A sentence in, validated machine-learning features out.

Upload a dataset, say in a sentence which features you want, and read back typed, reproducible features with their
lineage and quality.

* **Credentials**: an access token or an API key as `Authorization: Bearer`, or the API key in its own header.
* **Rate limit**: `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds) as in
  draft-ietf-httpapi-ratelimit-headers-06; a 429 also says `Retry-After`.
* **Waiting**: a request for features waits some seconds for them. What takes longer is answered 202 and found at
  `Location`; ask for its status, or follow its events. Nothing that was accepted is lost.
* **Webhooks**: with a `callback_url` its end is sent there, signed as standardwebhooks.com describes.
* **Sending again**: with an `Idempotency-Key`, a request that is repeated gets the answer of the first.
* **Errors**: problem details (RFC 9457); a GET on a problem's `type` explains it.
* **Every answer** carries `X-Request-ID`, `X-Trace-ID` and `X-Process-Time`.
"""
ASSETS = Path(__file__).parent / "static"
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Both pages create styles at run time; Redoc's search index is a worker that it creates itself."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="{root}/api/assets/icon.svg" type="image/svg+xml">
<style>body {{ margin: 0 }}</style>
{styles}
</head>
<body>
<div id="page" data-schema="{root}/api/openapi.json"></div>
{scripts}
</body>
</html>
"""


class DocumentationPage(OpenAPIRenderPlugin):
    """Render the schema as a page with our own scripts and styles."""

    def __init__(self, path: str, title: str, *, scripts: Sequence[str], styles: Sequence[str] = ()) -> None:
        super().__init__(path=path)
        self._title = title
        self._scripts = scripts
        self._styles = styles

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002 (the page fetches the schema)
        """Render the page; its paths are absolute below the root path at which a proxy mounts the service."""
        root = escape(str(request.scope["root_path"]))
        page = PAGE.format(
            title=escape(self._title),
            root=root,
            styles="\n".join(f'<link rel="stylesheet" href="{root}/api/assets/{name}">' for name in self._styles),
            scripts="\n".join(f'<script src="{root}/api/assets/{name}"></script>' for name in self._scripts),
        )
        return page.encode()


class DocumentationRouter(Router):
    """Omit the framework's catch-all route, which would answer every unknown path below /api with an HTML page."""

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        """Register every route but the catch-all."""
        return [] if "/{path:str}" in getattr(value, "paths", ()) else super().register(value)


def protect(response: Response[Any]) -> Response[Any]:
    """Set security headers on the pages, as Litestar's `after_request`: nothing from elsewhere, nothing inline."""
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@get("/api/assets/{name:str}", include_in_schema=False, cache_control=CacheControlHeader(public=True, max_age=86_400))
async def get_asset(name: FromPath[str]) -> File:
    """A script, style or licence of the pages; the name must be one of the folder's, so no path can be built."""
    if name not in {path.name for path in ASSETS.iterdir()}:
        raise NotFoundException
    media_type = MEDIA_TYPES.get(Path(name).suffix, "text/plain")
    return File(ASSETS / name, filename=name, media_type=media_type, content_disposition_type="inline")


@get(PROBLEM_PATH, include_in_schema=False, sync_to_thread=False)
def list_problem_types() -> dict[str, object]:
    """Every problem type by its code."""
    return {"problem_types": PROBLEMS}


@get(PROBLEM_PATH + "/{code:str}", include_in_schema=False, sync_to_thread=False)
def get_problem_type(code: FromPath[str]) -> dict[str, object]:
    """What a problem's `type` stands for."""
    if (kind := PROBLEMS.get(code)) is None:
        raise NotFoundException
    return {"type": f"{PROBLEM_PATH}/{code}", "error_code": code, "problem_type": kind}


def openapi_config(version: str, api_key_header: str) -> OpenAPIConfig:
    """Configure the schema, which is served with its pages below /api."""
    return OpenAPIConfig(
        title=TITLE,
        version=version,
        description=DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        use_handler_docstrings=True,
        tags=[
            Tag(name="auth", description="Access tokens."),
            Tag(name="datasets", description="Tables to extract features from."),
            Tag(name="extractions", description="Features, asked for in a sentence."),
            Tag(name="webhooks", description="The end of an extraction, sent to a `callback_url`."),
            Tag(name="usage", description="What you use of each quota, and what you may."),
            Tag(name="health", description="For probes and people."),
        ],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(
                    type="http", scheme="bearer", bearer_format="JWT", description="An access token or an API key."
                ),
                "apiKey": SecurityScheme(
                    type="apiKey", name=api_key_header, security_scheme_in="header", description="An API key."
                ),
            }
        ),
        openapi_router=DocumentationRouter("/api", route_handlers=[], include_in_schema=False, after_request=protect),
        render_plugins=[
            SchemaDocument(),
            DocumentationPage(
                "/docs",
                f"{TITLE}: API",
                styles=["swagger-ui.css"],
                scripts=["swagger-ui-bundle.js", "swagger-page.js"],
            ),
            DocumentationPage("/redoc", f"{TITLE}: API reference", scripts=["redoc.standalone.js", "redoc-page.js"]),
        ],
    )
