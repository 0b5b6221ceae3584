"""What a seller is told when a consent did not end in connected shops. Plain words, no secrets."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from sync.engine.onboarding import SHOPS_SCOPE
from sync.web.status import Level


@dataclass(frozen=True, slots=True)
class Outcome:
    """A page without particulars. ``can_retry``: the same answer of TikTok Shop may be tried again."""

    status: HTTPStatus
    level: Level
    title: str
    text: str
    next: str
    can_retry: bool = False

    @property
    def mark(self) -> str:
        return {"act": "!", "look": "?"}.get(self.level.css, "…")


_NEW_LINK = "Begin again with a fresh link from whoever asked you to connect the shop."
_OPERATOR = "Tell whoever runs this copy of shopsync."

OUTCOMES = {
    "refused": Outcome(
        HTTPStatus.OK,
        Level.LOOK,
        "You did not allow the access",
        "Nothing was connected, and nothing of your shop was read.",
        f"If that was a mistake: {_NEW_LINK[0].lower()}{_NEW_LINK[1:]}",
    ),
    "unknown": Outcome(
        HTTPStatus.BAD_REQUEST,
        Level.LOOK,
        "This link is not known here",
        "It was not made by this server, was cut off, or is more than a day old. Nothing was changed.",
        _NEW_LINK,
    ),
    "used": Outcome(
        HTTPStatus.GONE,
        Level.LOOK,
        "This link was used already",
        "Each link works once. If your shop was connected the first time, nothing is left to do.",
        "If it was not, ask for a fresh link.",
    ),
    "expired": Outcome(
        HTTPStatus.GONE,
        Level.LOOK,
        "This link is too old",
        "A link works for one hour. Nothing was changed.",
        _NEW_LINK,
    ),
    "code": Outcome(
        HTTPStatus.GONE,
        Level.LOOK,
        "TikTok Shop does not accept this consent any more",
        "Its code works once, for 30 minutes. It was used already, or that time is over.",
        _NEW_LINK,
    ),
    "mixed_up": Outcome(
        HTTPStatus.BAD_REQUEST,
        Level.LOOK,
        "This answer belongs to another app",
        "The link was made for one app and the answer came from another. Nothing was connected.",
        _NEW_LINK,
    ),
    "foreign": Outcome(
        HTTPStatus.BAD_REQUEST,
        Level.LOOK,
        "This app is not set up here",
        "The answer came from an app that this copy of shopsync does not know. Nothing was connected.",
        f"{_OPERATOR} The redirect URL of an app in Partner Center may point to the wrong server.",
    ),
    "shopless": Outcome(
        HTTPStatus.CONFLICT,
        Level.LOOK,
        "This account has no shop",
        "You allowed the access, but with an account to which no shop belongs.",
        f"Sign in to TikTok Shop with the account that owns the shop. {_NEW_LINK}",
    ),
    "scopeless": Outcome(
        HTTPStatus.CONFLICT,
        Level.ACT,
        "The app may not see your shops",
        f"Without the permission {SHOPS_SCOPE} nobody can tell which shops are yours.",
        f"{_OPERATOR} It is switched on in Partner Center, under Manage API; then consent again.",
    ),
    "app": Outcome(
        HTTPStatus.BAD_GATEWAY,
        Level.ACT,
        "TikTok Shop refuses the app itself",
        "This is no fault of yours: the app's key or secret is wrong here, or this machine is not on the "
        "app's list of addresses.",
        f"{_OPERATOR} Its log names the reason. Then open a fresh link.",
    ),
    "settings": Outcome(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        Level.ACT,
        "Something is missing in the settings here",
        "This is no fault of yours, and nothing was connected.",
        f"{_OPERATOR} `shopsync doctor` and the log say what is missing.",
    ),
    "provider": Outcome(
        HTTPStatus.SERVICE_UNAVAILABLE,
        Level.LOOK,
        "TikTok Shop does not answer right now",
        "Your consent is still good for about half an hour. You need not sign in again.",
        "Wait a minute, then try again.",
        can_retry=True,
    ),
    "database": Outcome(
        HTTPStatus.SERVICE_UNAVAILABLE,
        Level.LOOK,
        "The database does not answer right now",
        "Your consent is still good for about half an hour. You need not sign in again.",
        "Wait a minute, then try again.",
        can_retry=True,
    ),
    "nothing": Outcome(
        HTTPStatus.BAD_REQUEST,
        Level.LOOK,
        "There is nothing to show here",
        "TikTok Shop sends sellers here after they allowed the access. No answer of it came with this "
        "request, or it was more than half an hour ago.",
        "What is connected stands on the status page.",
    ),
    "stale": Outcome(
        HTTPStatus.CONFLICT,
        Level.LOOK,
        "This form was sent already",
        "It works once, for half an hour. Nothing was changed by sending it again.",
        "What is connected stands on the status page; `shopsync shops disconnect` lets go of a shop.",
    ),
    "busy": Outcome(
        HTTPStatus.TOO_MANY_REQUESTS,
        Level.LOOK,
        "Too many answers arrive at once",
        "Nothing was tried yet, so your consent is still good.",
        "Wait a minute, then load this page again.",
    ),
}
