"""Who may see the pages that show something."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from sync.errors import SettingsError
from sync.settings import Web, is_loopback

_COOKIE = "shopsync_status"
_COOKIE_LIFE_S = 30 * 86400
_HOW = (
    "It is the one in SHOPSYNC_WEB__TOKEN: open /?token=... once in this browser, "
    "or send it as `Authorization: Bearer ...`."
)


class Guard:
    """Lets in whom the settings trust: this machine, or whoever knows the token.

    Raises SettingsError when the server would stand open to a network.
    """

    def __init__(self, settings: Web) -> None:
        listens_locally = is_loopback(settings.host)
        # Whatever comes through a proxy looks local.
        self._is_local = listens_locally and not settings.public_url
        self._public_host = urlsplit(settings.public_url).hostname
        self._is_https = settings.public_url.startswith("https:")
        self._checks_host = listens_locally
        token = "" if settings.token is None else settings.token.get_secret_value()
        if settings.public_url and not token:
            raise SettingsError(
                f"web.public_url is {settings.public_url}, so the web server can be reached from other "
                "machines: set SHOPSYNC_WEB__TOKEN (make one with `openssl rand -hex 32`)"
            )
        if not self._is_local and not token:
            raise SettingsError(
                f"the web server on {settings.host} can be reached from other machines: set "
                "SHOPSYNC_WEB__TOKEN (make one with `openssl rand -hex 32`), or SHOPSYNC_WEB__HOST=127.0.0.1"
            )
        self._token = token.encode()
        # Derived, so that whoever finds the cookie has not found the token; and free of characters
        # that a cookie cannot hold.
        self._pass = hmac.new(self._token, b"shopsync status page", hashlib.sha256).hexdigest()

    def check_host(self, request: web.Request) -> None:
        """Returns unless a foreign name leads here; raises HTTPForbidden then.

        A page of another site can let its name point to 127.0.0.1 and read what is served there as
        its own. The name it used stands in the Host header.
        """
        hosts = request.headers.getall(hdrs.HOST, ())
        if self._checks_host and not all(self._is_ours(_name_of(host)) for host in hosts):
            raise web.HTTPForbidden(
                text="403: this server answers to 127.0.0.1, localhost and the host of web.public_url "
                "only; a proxy must send such a Host header\n"
            )

    def admit(self, request: web.Request) -> None:
        """Returns when the request may see data.

        Else raises HTTPUnauthorized, or HTTPSeeOther with a cookie when the address held the token.
        """
        if self._is_local:
            return
        scheme, _, credential = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(credential.strip()):
            return
        if _is_same(request.cookies.get(_COOKIE, ""), self._pass.encode()):
            return
        if self._is_token(request.query.get("token", "")):
            # Away from the address with the token, which would stay in the browser's history.
            moved = web.HTTPSeeOther(request.rel_url.without_query_params("token"))
            moved.set_cookie(
                _COOKIE,
                self._pass,
                max_age=_COOKIE_LIFE_S,
                httponly=True,
                samesite="Strict",
                secure=self._is_https and _name_of(request.host) == self._public_host,
                path="/",
            )
            raise moved
        raise web.HTTPUnauthorized(text=_HOW, headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="shopsync"'})

    def is_admitted(self, request: web.Request) -> bool:
        """True when ``admit`` would let the request pass."""
        try:
            self.admit(request)
        except web.HTTPException:
            return False
        return True

    def _is_ours(self, name: str | None) -> bool:
        return name is not None and (is_loopback(name) or name == self._public_host)

    def _is_token(self, given: str) -> bool:
        return _is_same(given, self._token)


def _is_same(given: str, expected: bytes) -> bool:
    # Bytes: comparing text in constant time is for ASCII only, and the header may hold anything.
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected)


def _name_of(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
