"""The pages: templates, and the headers under which a browser shows them."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from pathlib import Path

import jinja2
from aiohttp import hdrs, web

from sync.web.status import tell_duration

_CSP = "default-src 'none'; style-src 'nonce-{}'; base-uri 'none'; form-action {}; frame-ancestors 'none'"


class Pages:
    """Renders pages that run no script and load nothing."""

    def __init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters["duration"] = tell_duration

    def render(
        self, template: str, status: HTTPStatus, *, has_form: bool = False, **values: object
    ) -> web.Response:
        """The page as an answer. ``refresh_s`` among the values makes it load itself again."""
        nonce = secrets.token_urlsafe(16)
        text = self._templates.get_template(template).render(nonce=nonce, **{"refresh_s": None, **values})
        policy = _CSP.format(nonce, "'self'" if has_form else "'none'")
        return web.Response(
            status=status, text=text, content_type="text/html", headers={"Content-Security-Policy": policy}
        )

    def tell_problem(
        self,
        request: web.Request,
        status: HTTPStatus,
        title: str,
        message: str,
        *,
        refresh_s: int | None = None,
    ) -> web.Response:
        """A page for a browser, a line for a program."""
        if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            return web.Response(status=status, text=f"{status.value}: {title}. {message}\n")
        return self.render("problem.html", status, title=title, message=message, refresh_s=refresh_s)
