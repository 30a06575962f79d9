"""The certificate of the ingress: read again when its files change, never half, and its last day told.

While new files can't be used, the old ones are served on.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from cryptography import x509

from botctl.errors import BotctlError

_log = structlog.get_logger("botctl.control.ingress")

LOOK_EVERY = 5.0
"""Seconds between two looks at the files."""

_Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """Raises BotctlError when the files can't be used at the start. `clock` is monotonic."""

    def __init__(self, certificate: Path, key: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = (certificate, key)
        self._clock = clock
        self._looked_at = clock()
        self.problem: str | None = None
        self._stamp = self._stamped()
        self.pem, self.expires_at, self._context = self._read()
        """As it is given to Telegram; seconds since the epoch."""

    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            self.look()
        return self._context

    def look(self) -> None:
        """Take over what has changed."""
        stamp = self._stamped()
        if stamp == self._stamp:
            return
        try:
            self.pem, self.expires_at, self._context = self._read()
        except BotctlError as error:
            if self.problem is None:
                _log.error("the new certificate can't be used; the old one is served on", reason=error.message)
            self.problem = error.message
        else:
            self._stamp, self.problem = stamp, None
            _log.info("a new certificate is served", expires_at=self.expires_at)

    def _stamped(self) -> _Stamp:
        try:
            return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in (one.stat() for one in self._files))
        except OSError:
            return ()

    def _read(self) -> tuple[str, float, ssl.SSLContext]:
        certificate, key = self._files
        try:
            pem = certificate.read_text(encoding="ascii")
            first = x509.load_pem_x509_certificate(pem.encode())
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            # Not asked for a password: nobody is there to give one.
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise BotctlError(
                f"the certificate of the ingress can't be used ({certificate}, {key}): {reason}"[:400],
                hint="Both are PEM files that belong together; the key has no password.",
            ) from error
        context.set_alpn_protocols(["http/1.1"])
        return pem, first.not_valid_after_utc.timestamp(), context


def _no_password() -> str:
    raise ValueError("the key has a password")
