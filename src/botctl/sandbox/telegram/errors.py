"""The refusals of the Bot API, in Telegram's own words."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A refused call: becomes `{"ok": false, "error_code": …, "description": …}` with that HTTP status."""

    def __init__(
        self, code: int, description: str, *, retry_after: int | None = None, migrate_to_chat_id: int | None = None
    ) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.retry_after = retry_after
        self.migrate_to_chat_id = migrate_to_chat_id

    def as_json(self) -> dict[str, Any]:
        """The body of the answer."""
        body: dict[str, Any] = {"ok": False, "error_code": self.code, "description": self.description}
        if self.retry_after is not None:
            body["parameters"] = {"retry_after": self.retry_after}
        if self.migrate_to_chat_id is not None:
            body["parameters"] = {"migrate_to_chat_id": self.migrate_to_chat_id}
        return body


def bad_request(description: str) -> ApiError:
    """400. Like the real server, the first letter becomes small unless the word looks like a code (`MESSAGE_ID_…`)."""
    if len(description) > 1 and description[0].isupper() and not description[1].isupper():
        description = description[0].lower() + description[1:]
    return ApiError(400, f"Bad Request: {description}")


def unauthorized() -> ApiError:
    """401: the token is of no bot."""
    return ApiError(401, "Unauthorized")


def forbidden(description: str) -> ApiError:
    """403: the bot may not write there."""
    return ApiError(403, f"Forbidden: {description}")


def not_found() -> ApiError:
    """404: no such method, or a token that can't be one."""
    return ApiError(404, "Not Found")


def conflict(description: str) -> ApiError:
    """409: two ways to receive updates at once."""
    return ApiError(409, f"Conflict: {description}")


def too_many_requests(retry_after: int) -> ApiError:
    """429 with the seconds to wait."""
    return ApiError(429, f"Too Many Requests: retry after {retry_after}", retry_after=retry_after)


_STANDARD = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden: bot was blocked by the user",
    404: "Not Found",
    409: "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def migrated(chat_id: int) -> ApiError:
    """400: the group is a supergroup now, with another id."""
    return ApiError(400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=chat_id)


def by_status(
    status: int, description: str | None = None, retry_after: int | None = None, migrate_to_chat_id: int | None = None
) -> ApiError:
    """The error Telegram would show with that status, for injected faults."""
    if status == 429:
        retry_after = 1 if retry_after is None else retry_after
        description = description or f"Too Many Requests: retry after {retry_after}"
    if migrate_to_chat_id is not None and description is None:
        return migrated(migrate_to_chat_id)
    return ApiError(status, description or _STANDARD.get(status, "Error"), retry_after=retry_after)
