"""The refusals of the OpenAI API, in its shape and words."""

from __future__ import annotations

from typing import Any


class CompletionError(Exception):
    """A refused request: `{"error": {"message", "type", "param", "code"}}` with an HTTP status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def as_json(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None, code: str | None = None) -> CompletionError:
    """400: the request is wrong."""
    return CompletionError(400, message, param=param, code=code)


def no_key() -> CompletionError:
    """401: no Authorization header."""
    return CompletionError(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth"
        " (i.e. Authorization: Bearer YOUR_KEY).",
    )


def refused_key(key: str) -> CompletionError:
    """401: a key that is not accepted, shown shortened."""
    shown = key if len(key) <= 8 else f"{key[:3]}{'*' * 8}{key[-4:]}"
    return CompletionError(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


def unknown_model(model: str) -> CompletionError:
    """404: no such model."""
    return CompletionError(
        404, f"The model `{model}` does not exist or you do not have access to it.", code="model_not_found"
    )


def by_status(status: int, message: str | None = None, retry_after: int | None = None) -> CompletionError:
    """The error OpenAI would show with that status, for injected faults."""
    if status == 429:
        return CompletionError(
            429,
            message or "Rate limit reached for requests. Please try again later.",
            kind="requests",
            code="rate_limit_exceeded",
            retry_after=retry_after,
        )
    if status >= 500:
        text = message or "The server had an error while processing your request. Sorry about that!"
        return CompletionError(status, text, kind="server_error", retry_after=retry_after)
    return CompletionError(status, message or "The request was refused.", retry_after=retry_after)
