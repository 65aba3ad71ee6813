"""Errors of the API: every one leaves as problem+json (RFC 9457) with a stable ``code``.

Nothing of a request's body is repeated in an error: it may hold a token.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from edgewise.errors import EdgewiseError, WireError
from edgewise_hub.api.schemas import Problem

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
_STATUS = {"no-blob": 422, "too-large": 413, "disk-full": 507, "no-broker": 503, "broker-refused": 502}
"""Statuses of errors that are not the API's own, by code; the rest is 400 (the wire) or 422."""


class ApiError(EdgewiseError):
    """A request that cannot be done: an HTTP ``status``, a stable ``code``, and a sentence that says what to do."""

    def __init__(self, message: str, *, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.headers = headers or {}


def not_found(what: str, identifier: object) -> ApiError:
    """404, code ``not-found``: there is no such ``what`` (a word: device, version, rollout...)."""
    return ApiError(f"{what} {str(identifier)[:80]!r}: there is none", status=404, code="not-found")


def conflict(message: str, code: str = "conflict") -> ApiError:
    """409: the request does not fit the state that the thing is in."""
    return ApiError(message, status=409, code=code)


def problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """One problem+json answer."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, code=code)
    return JSONResponse(body.model_dump(), status, headers, PROBLEM_JSON)


def install(app: FastAPI) -> None:
    """Put the handlers on the application."""
    app.add_exception_handler(EdgewiseError, _edgewise_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _edgewise_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, EdgewiseError)
    if isinstance(error, ApiError):
        return problem(error.status, error.code, str(error), error.headers)
    return problem(_STATUS.get(error.code, 400 if isinstance(error, WireError) else 422), error.code, str(error))


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()[:5]]
    return problem(422, "invalid-request", "; ".join(faults))


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}.get(error.status_code, "http-error")
    detail = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return problem(error.status_code, code, detail, dict(error.headers or {}))


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(500, "internal", "the hub failed on this request; its log says why")
