"""What a client is told when something is wrong: OpenAI's error object, whoever sends it."""

import json
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer that is no picture.

    Args:
        status: of HTTP; 4xx are the client's, 5xx the service's.
        code: for programs, of SERVING's table, such as `invalid_value`.
        message: for people: what was expected and what came.
        param: the form's field that is meant.
        headers: besides the usual ones.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.headers = dict(headers or {})

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, which an editor's process sends it by."""
        return type(self), (self.status, self.code, self.message, self.param, self.headers)

    def content(self) -> dict[str, Any]:
        """OpenAI's error object, of which its clients take code, param and type."""
        kind = "invalid_request_error"
        if self.status == 429:
            kind = "rate_limit_error"
        elif self.status >= 500:
            kind = "server_error"
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def body(self) -> bytes:
        """The content as JSON."""
        return json.dumps(self.content()).encode()


def invalid(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """400, of a field."""
    return ApiError(400, code, f"{param}: {message}", param)


def busy(message: str, retry_after: int) -> ApiError:
    """429, with the seconds after which another try makes sense."""
    return ApiError(429, "server_busy", message, headers={"Retry-After": str(retry_after)})


def starting() -> ApiError:
    """503: no editor can be asked yet."""
    return ApiError(503, "starting", "The service is starting.", headers={"Retry-After": "1"})


def lost() -> ApiError:
    """503: the process that worked on it died, and so did the one that took over."""
    message = "The process that worked on the request was lost."
    return ApiError(503, "replica_lost", message, headers={"Retry-After": "1"})


def late(deadline_s: float) -> ApiError:
    """504; a client that tried again would have the same edit computed for nothing."""
    message = f"The edit was not finished within {deadline_s:g} s, waiting included."
    return ApiError(504, "timeout", message, headers={"x-should-retry": "false"})


def internal() -> ApiError:
    """500, without a word of what happened: that is in the service's log."""
    return ApiError(500, "internal_error", "The service failed on this request.")


def too_large(limit: int) -> ApiError:
    """413, of a whole body."""
    message = f"The request's body is larger than {limit:,} bytes."
    return ApiError(413, "request_too_large", message, headers={"Connection": "close"})
