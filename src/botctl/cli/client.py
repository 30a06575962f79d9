"""The API of a running daemon, over its Unix socket. Standard library only, so that commands begin at once."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from botctl.cli.note import DaemonNote, require_note
from botctl.errors import BotctlError, ExitCode, NoSuchBotError, RefusedError, UsageError
from botctl.settings.places import DataFolder

TIMEOUT = 60.0
"""Seconds for one answer: applying a large fleet makes credentials for every bot."""


class ControlAwayError(BotctlError):
    """The daemon lives, but `control`, which serves the API, does not answer now."""


class RemoteError(BotctlError):
    """The daemon's own error; `exit_code` is what it said."""

    def __init__(self, message: str, *, hint: str | None, code: int) -> None:
        super().__init__(message, hint=hint)
        try:
            self.exit_code = ExitCode(code)
        except ValueError:
            self.exit_code = ExitCode.FAILED


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("botctl", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class ApiClient:
    """One daemon's API. Every method raises RemoteError, ControlAwayError or RefusedError."""

    def __init__(self, note: DaemonNote) -> None:
        self.note = note

    @classmethod
    def of(cls, folder: DataFolder) -> ApiClient:
        """The API of the daemon that runs on this folder. Raises NoDaemonError."""
        return cls(require_note(folder))

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT) -> dict[str, Any]:
        """A JSON document."""
        return self._document("GET", _with_query(path, query), None, timeout)

    def post(self, path: str, body: Any = None, *, timeout: float = TIMEOUT) -> dict[str, Any]:
        """Ask for something to be done; the answer's JSON document."""
        return self._document("POST", path, body, timeout)

    def lines(self, path: str, query: Mapping[str, Any], *, body: Any = None) -> Iterator[bytes]:
        """The lines of a streamed answer, as they come; with a `body` to a command."""
        verb = "GET" if body is None else "POST"
        connection, response = self._send(verb, _with_query(path, query), body, None)
        try:
            _check(response)
            while line := response.readline():
                yield line
        except (http.client.HTTPException, OSError) as error:
            raise self._away() from error
        finally:
            connection.close()

    def _document(self, verb: str, path: str, body: Any, timeout: float) -> dict[str, Any]:
        connection, response = self._send(verb, path, body, timeout)
        try:
            _check(response)
            document: dict[str, Any] = json.loads(response.read())
        except (http.client.HTTPException, OSError) as error:
            raise self._away() from error
        finally:
            connection.close()
        return document

    def _send(
        self, verb: str, path: str, body: Any, timeout: float | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = _UnixConnection(self.note.socket, timeout)
        content = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
        headers = {"Authorization": f"Bearer {self._token()}"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(verb, path, content, headers)
            return connection, connection.getresponse()
        except PermissionError as error:
            connection.close()
            raise RefusedError(
                f"you may not command the daemon on {self.note.data_dir}", hint="Run this as the user who started it."
            ) from error
        except FileNotFoundError as error:
            connection.close()
            if self.note.state == "starting":
                raise self._away() from error
            raise ControlAwayError(
                f"the daemon (pid {self.note.pid}) runs, but its control process does not answer",
                hint=f"Somebody has deleted {self.note.socket}. Bots run on; `botctl stop` and `start` make it anew.",
            ) from error
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            raise self._away() from error

    def _token(self) -> str:
        file = DataFolder(Path(self.note.data_dir)).api_token
        try:
            return file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return ""  # a daemon of an earlier release has none; others refuse
        except (OSError, UnicodeDecodeError) as error:
            raise RefusedError(
                f"you may not command the daemon on {self.note.data_dir}: {file} can't be read",
                hint="Run this as the user who started it.",
            ) from error

    def _away(self) -> ControlAwayError:
        if self.note.state == "starting":
            return ControlAwayError(
                f"the daemon (pid {self.note.pid}) is still starting", hint="Try again in a moment."
            )
        return ControlAwayError(
            f"the daemon (pid {self.note.pid}) runs, but its control process does not answer",
            hint="Bots run on without it, and it is restarted by itself; `botctl logs control` says more.",
        )


def bot_path(name: str, verb: str) -> str:
    """The path of a command to one bot. Raises UsageError, or NoSuchBotError for what no bot can be called."""
    if not name:
        raise UsageError("a bot's name is not empty")
    if "/" in name or name in (".", ".."):
        raise NoSuchBotError(f"no bot is called {name!r}")
    return f"/v1/bots/{quote(name, safe='')}/{verb}"


def _with_query(path: str, query: Mapping[str, Any] | None) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _check(response: http.client.HTTPResponse) -> None:
    if response.status < 400:
        return
    try:
        body = json.loads(response.read())
        raise RemoteError(body["error"], hint=body.get("hint"), code=body["code"])
    except (ValueError, KeyError, TypeError) as error:
        raise RemoteError(f"the daemon answered {response.status}", hint=None, code=1) from error
