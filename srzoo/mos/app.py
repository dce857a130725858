"""The web application: pages for raters, an interface for what they answer, and a page for who runs the study."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs

from anyio.to_thread import current_default_thread_limiter
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as StarletteHTTPException

from .database import CONNECTIONS
from .limits import Bounds
from .plan import EXAMPLE
from .progress import count_states, export_csv, progress_rows
from .ratings import Rater, RefusedRatingError, UnknownRaterError, open_ratings
from .site import Site
from .study import load_study

SECONDS_EACH = 5
"""What an answer takes, for the estimate that raters are told."""
TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")
"""What :func:`srzoo.mos.study.new_token` draws. Nothing else reaches the database, which may not take every text."""
IN_WORDS = {404: "There is nothing here. Open the link that you were sent.", 405: "That cannot be done here."}
"""What a person is told where nothing but HTTP's own phrase would be said."""

router = APIRouter()
_log = logging.getLogger(__name__)


class Answer(BaseModel):
    """What a page sends for one answer. Unknown fields and other types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: str = Field(min_length=8, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")
    position: int = Field(ge=0, le=1_000_000)
    value: int = Field(ge=1, le=5)
    milliseconds: int | None = Field(default=None, ge=0, le=86_400_000)
    pixel_ratio: float | None = Field(default=None, gt=0, le=32)
    replaces: int | None = Field(default=None, ge=0, le=1_000_000)


def create_app(folder: str | Path) -> FastAPI:
    """Return the application of the study in a folder.

    Raises:
        InputError, DataError: the folder holds no study, or its database cannot be opened.
    """
    study, secret = load_study(folder)
    site = Site(study, secret, open_ratings(folder, study, secret), Path(folder))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = CONNECTIONS  # more threads would only wait for a connection
        yield
        site.ratings.close()

    app = FastAPI(title=study.title, docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.router.redirect_slashes = False  # to an address that the request made up, and that may lack the proxy's https
    app.state.site = site
    app.add_middleware(Bounds)
    app.include_router(router)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(SQLAlchemyError, _unavailable)
    return app


# --- who may what -------------------------------------------------------------------------------------------


async def site_of(request: Request) -> Site:
    """Return the study that is served."""
    site: Site = request.app.state.site
    return site


ThisSite = Annotated[Site, Depends(site_of)]


async def paced(token: str, request: Request, site: ThisSite) -> str:
    """Return a token that a person may have; refuse one that asks faster than a person can."""
    if not TOKEN.fullmatch(token):
        raise _unknown(site, request)
    if not site.requests.allows(token):
        raise HTTPException(429, "Too fast; wait a moment.", {"Retry-After": "5"})
    return token


def known(token: Annotated[str, Depends(paced)], request: Request, site: ThisSite) -> Rater:
    """Return the rater whose token is in the address."""
    try:
        return site.ratings.rater(token)
    except UnknownRaterError:
        raise _unknown(site, request) from None


async def by_open_link(token: str, request: Request, site: ThisSite) -> str:
    """Refuse a token other than that of the open link."""
    if not site.is_open(token):
        raise _unknown(site, request)
    return token


async def by_admin(token: str, request: Request, site: ThisSite) -> str:
    """Refuse a token other than that of who runs the study."""
    if not site.is_admin(token):
        raise _unknown(site, request)
    return token


async def form(request: Request) -> dict[str, str]:
    """Return the fields of a form, each once.

    Raises:
        HTTPException: the body is no form.
    """
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise HTTPException(415, "That is not a form this page sends.")
    try:
        fields = parse_qs((await request.body()).decode("ascii"), errors="strict", max_num_fields=8)
    except ValueError:
        raise HTTPException(400, "That is not a form this page sends.") from None
    return {name: values[0] for name, values in fields.items()}


def _name(fields: dict[str, str]) -> str:
    """Return the name in a form. Pages escape names; one with markup in it is no mistake, and is not kept at all."""
    name = fields.get("name", "")
    if "<" in name or ">" in name:
        raise HTTPException(422, "A name has no < or > in it. Go back and leave them out.")
    return name


def _unknown(site: Site, request: Request) -> HTTPException:
    """Count a wrong token against the address it came from, and return the answer."""
    if not site.guesses.allows(_address(request)):
        return HTTPException(429, "Too many wrong links; wait a minute.", {"Retry-After": "60"})
    return HTTPException(404, "This link is not known. Open it as it was sent to you.")


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


Known = Annotated[Rater, Depends(known)]
Token = Annotated[str, Depends(paced)]
OpenToken = Annotated[str, Depends(by_open_link)]
AdminToken = Annotated[str, Depends(by_admin)]
Form = Annotated[dict[str, str], Depends(form)]

# --- pages --------------------------------------------------------------------------------------------------


@router.get("/")
async def home(site: ThisSite) -> Response:
    """A page for who leaves off the token."""
    return HTMLResponse(site.render("note.html.j2", heading=site.study.title, text="Open the link that you were sent."))


@router.get("/static/{name}")
async def static(name: str, site: ThisSite) -> Response:
    """Style sheet and script, whose names change with their content."""
    for file, media_type, content in site.statics.values():
        if file == name:
            return Response(content, media_type=media_type, headers=_kept())
    raise HTTPException(404)


@router.get("/join/{token}")
async def join_page(token: OpenToken, site: ThisSite) -> Response:
    """What the open link leads to; a link that is only looked at makes no rater."""
    return HTMLResponse(site.render("join.html.j2", token=token))


@router.post("/join/{token}")
def join(token: OpenToken, request: Request, fields: Form, site: ThisSite) -> Response:
    """Make a rater, whose own link the browser goes to."""
    if not site.joins.allows(_address(request)):
        raise HTTPException(429, "Too many people joined from here just now; wait a minute.", {"Retry-After": "60"})
    if site.ratings.count() >= site.study.open_raters:
        raise HTTPException(403, "The study has all the raters that it takes.")
    rater = site.ratings.add_rater(_name(fields), begun=True)
    return RedirectResponse(f"/r/{rater.token}", 303)


@router.get("/r/{token}")
def welcome(rater: Known, site: ThisSite) -> Response:
    """Instructions, and the way in or on."""
    if rater.finished:
        return HTMLResponse(site.render("done.html.j2", rater=rater))
    examples = sum(trial.kind == EXAMPLE for trial in rater.plan)
    minutes = max(1, round((len(rater.plan) - rater.done) * SECONDS_EACH / 60))
    return HTMLResponse(site.render("welcome.html.j2", rater=rater, examples=examples, minutes=minutes))


@router.get("/r/{token}/rate")
def rate_page(rater: Known, site: ThisSite, last: bool = False) -> Response:
    """The page that asks; after the last answer only who wants to change it."""
    if rater.finished and not last:
        return RedirectResponse(f"/r/{rater.token}", 303)
    if rater.begun is None:
        site.ratings.begin(rater)
    return HTMLResponse(site.render("rate.html.j2", rater=rater, state=site.state(rater)))


# --- what its script asks for -------------------------------------------------------------------------------


@router.get("/r/{token}/trials/{position}")
def trial(position: int, rater: Known, site: ThisSite) -> Response:
    """One trial, for who goes back."""
    if not 0 <= position <= min(rater.done, len(rater.plan) - 1):
        raise HTTPException(404)
    return JSONResponse(site.trial(rater, position))


@router.get("/r/{token}/images/{name}")
def image(name: str, rater: Known, site: ThisSite) -> Response:
    """An image, under a name that no other rater has for it."""
    content = site.image(rater, name)
    if content is None:
        raise HTTPException(404)
    return Response(content, media_type="image/png", headers=_kept())


@router.post("/r/{token}/ratings")
def rate(token: Token, answer: Answer, request: Request, site: ThisSite) -> Response:
    """Keep an answer; the page is told once it is on disk."""
    try:
        rater = site.ratings.rate(token, **answer.model_dump())
    except UnknownRaterError:
        raise _unknown(site, request) from None
    except RefusedRatingError as error:
        raise HTTPException(409, f"Not kept: {error}.") from None
    following = min(answer.position + 1, rater.done)
    return JSONResponse(
        {
            "kept": answer.position,
            "done": rater.done,
            "expected": rater.plan[answer.position].expected,
            "trials": site.window(rater, following),
        }
    )


# --- who runs the study -------------------------------------------------------------------------------------


@router.get("/admin/{token}")
def admin(token: AdminToken, site: ThisSite) -> Response:
    """Raters and how far they are."""
    ratings = site.ratings.ratings()
    rows = progress_rows(site.study, site.ratings.raters(), ratings)
    return HTMLResponse(
        site.render("admin.html.j2", secret=site.secret, rows=rows, states=count_states(rows), total=len(ratings))
    )


@router.post("/admin/{token}/invite")
def invite(token: AdminToken, fields: Form, site: ThisSite) -> Response:
    """Add a rater to send a link to."""
    site.ratings.add_rater(_name(fields))
    return RedirectResponse(f"/admin/{token}", 303)


@router.get("/admin/{token}/ratings.csv")
def export(token: AdminToken, site: ThisSite) -> Response:
    """All answers with their history, without names."""
    text = export_csv(site.study, site.ratings.raters(), site.ratings.history())
    headers = {"Content-Disposition": 'attachment; filename="ratings.csv"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


# --- errors -------------------------------------------------------------------------------------------------


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    text = str(error.detail)
    if text == HTTPStatus(error.status_code).phrase:
        text = IN_WORDS.get(error.status_code, text)
    return _refusal(request, error.status_code, text, error.headers or {})


def _invalid(request: Request, error: Exception) -> Response:
    return _refusal(request, 422, "That is not what this page sends.", {})


def _unavailable(request: Request, error: Exception) -> Response:
    _log.error("the database refused: %s", error)
    return _refusal(request, 503, "The database does not answer just now; it is tried again.", {"Retry-After": "2"})


def _refusal(request: Request, status: int, text: str, headers: dict[str, str] | object) -> Response:
    """Return an error as what was asked for: JSON to the page's script, a page to a person."""
    sent = dict(headers) if isinstance(headers, dict) else {}
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": text}, status, sent)
    site: Site = request.app.state.site
    return HTMLResponse(site.render("note.html.j2", heading="That did not work", text=text), status, sent)


def _kept() -> dict[str, str]:
    return {"Cache-Control": "private, max-age=86400, immutable"}
