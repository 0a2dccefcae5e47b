"""Sign-in to the console with an API key, and sign-out."""

from __future__ import annotations

import secrets
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.answers import JSON, json_answer, media_type
from app.api.dependencies import ApiParts, parts_of
from app.api.documents import TEXT, answer, listed, problem, record
from app.api.guards.auth import SESSION_COOKIE, find_key, not_signed_in, rate_limited, session_key
from app.api.problems import Problem
from app.domain.api_keys import ApiKey
from app.domain.sessions import ConsoleSession, session_digest

router = APIRouter(tags=["console"])
_SESSION_BYTES: Final = 32
_MS_PER_HOUR: Final = 3_600_000
_NEVER_KEPT: Final = {"Cache-Control": "no-store"}
_WHO: Final = record(name=TEXT, scopes=listed(TEXT))
_SIGN_IN: Final = {
    "type": "object",
    "required": ["key"],
    "properties": {"key": {"type": "string", "description": "an API key, `slk_…`"}},
}
_BY_COOKIE: Final[dict[str, Any]] = {"security": [{"session": []}]}
_BY_COOKIE_OR_NONE: Final[dict[str, Any]] = {"security": [{"session": []}, {}]}


@router.post(
    "/console/session",
    response_model=None,
    responses={
        200: answer("signed in: the cookie is set", _WHO),
        401: problem("`unauthorized`: the key is invalid"),
        415: problem("`unsupported_media_type`: the body must be JSON"),
        422: problem("`invalid_request`: the body contains no key"),
        429: problem("`rate_limited`: too many failed sign-ins from this address"),
        503: problem("`unavailable`: keys or sessions cannot be looked up"),
    },
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _SIGN_IN}}}},
)
async def sign_in(request: Request) -> Response:
    """Begin a session with {"key": "slk_…"}: set the cookie, return name and scopes."""
    parts = parts_of(request)
    # A page of another site can make a browser post a form, but not JSON.
    if media_type(request) != JSON:
        raise Problem(415, "unsupported_media_type", "send the key as application/json")
    token = _offered(await request.body())
    address = request.client.host if request.client is not None else ""
    wait_seconds = parts.sign_ins.wait_seconds(address)
    if wait_seconds > 0:
        raise rate_limited(wait_seconds, "too many failed sign-ins from this address")
    key = find_key(parts, token)
    if key is None:
        parts.sign_ins.note(address)
        raise not_signed_in()
    request.scope["state"]["key_id"] = key.id
    response = _who(key)
    await _begin(parts, key, response)
    return response


@router.get(
    "/console/session",
    response_model=None,
    responses={
        200: answer("the owner of the session", _WHO),
        401: problem("`unauthorized`: no session, or its key is no longer valid"),
        503: problem("`unavailable`: keys or sessions cannot be looked up"),
    },
    openapi_extra=_BY_COOKIE,
)
async def who_is_signed_in(request: Request) -> Response:
    """Return name and scopes of the session; 401 without a session."""
    key = await session_key(request, parts_of(request))
    if key is None:
        raise not_signed_in()
    request.scope["state"]["key_id"] = key.id
    return _who(key)


@router.delete(
    "/console/session",
    status_code=204,
    responses={
        403: problem("`forbidden`: a request by session cookie needs the header X-Sightline-Console: 1"),
        503: problem("`unavailable`: sessions cannot be looked up"),
    },
    openapi_extra=_BY_COOKIE_OR_NONE,
)
async def sign_out(request: Request) -> Response:
    """End the session, if there is one."""
    parts = parts_of(request)
    # Applies to invalid keys too: refuses requests that a page of another site could have sent.
    await session_key(request, parts)
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is not None:
        await parts.sessions.end(session_digest(cookie))
    response = Response(status_code=204, headers=_NEVER_KEPT)
    response.delete_cookie(
        SESSION_COOKIE, path="/", secure=parts.settings.api.secure_cookies, httponly=True, samesite="strict"
    )
    return response


def _offered(body: bytes) -> str:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(422, "invalid_request", "the body is not JSON") from error
    match document:
        case {"key": str(token)}:
            return token.strip()
        case _:
            raise Problem(422, "invalid_request", 'the body must be {"key": "slk_…"}')


async def _begin(parts: ApiParts, key: ApiKey, response: Response) -> None:
    settings = parts.settings.api
    session_id = secrets.token_urlsafe(_SESSION_BYTES)
    expires_ms = parts.clock.now_ms() + round(settings.session_hours * _MS_PER_HOUR)
    await parts.sessions.put(session_digest(session_id), ConsoleSession(key.id, expires_ms))
    response.set_cookie(
        SESSION_COOKIE,
        session_id,
        max_age=round(settings.session_hours * 3600),
        path="/",
        secure=settings.secure_cookies,
        httponly=True,
        samesite="strict",
    )


def _who(key: ApiKey) -> Response:
    return json_answer({"name": key.name, "scopes": sorted(key.scopes)}, headers=_NEVER_KEPT)
