"""Who may ask, and how often: keys, of which only hashes are kept, and a rate for each.

A key file has a line for each key: a name for people and the SHA-256 of the key in hex. A key has
256 random bits, so that a plain hash gives nothing away.
"""

import hashlib
import hmac
import math
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from reasonray.core.errors import UserError
from reasonray.serving.errors import ApiError

_LINE = re.compile(r"([\w.@-]+)\s+([0-9a-f]{64})")


def new_key(file: Path, name: str) -> str:
    """A new key, whose hash is appended to the file; nothing else knows the key.

    Raises:
        UserError: the file has a key of this name, or is no key file.
    """
    if not re.fullmatch(r"[\w.@-]+", name):
        raise UserError(f"{name!r}: a key's name has letters, digits and . _ - @ only")
    if file.exists() and name in read_keys(file):
        raise UserError(f"{file}: has a key named {name} already; delete its line first")
    key = f"rr-{secrets.token_urlsafe(32)}"
    try:
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8") as lines:
            lines.write(f"{name} {_hash(key)}\n")
    except OSError as error:
        raise UserError(
            f"{file}: cannot be written ({error.strerror}); give a file in a folder that is there"
        ) from error
    return key


def read_keys(file: Path) -> dict[str, str]:
    """Name -> SHA-256 in hex, of a key file; empty lines and those that begin with # are skipped.

    Raises:
        UserError: there is no such file, a line of it is something else, or it has no key.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: no key file can be read there: {error}") from error
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] in keys:
            raise UserError(
                f"{file}:{number}: expected a name of its own and the SHA-256 of a key in hex, as "
                "`reasonray keys` writes them"
            )
        keys[match[1]] = match[2]
    if not keys:
        raise UserError(f"{file}: has no key; make one with `reasonray keys {file}`")
    return keys


class Doorkeeper:
    """Lets a request in by its headers alone, before its body is read.

    Args:
        keys: name -> SHA-256 of each; None: everybody is let in.
        requests_per_minute: of one key, a minute's worth of them at once; None: any.
        clock: in seconds.
    """

    def __init__(
        self,
        keys: dict[str, str] | None,
        requests_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys, self._limit, self._clock = keys, requests_per_minute, clock
        self._buckets: dict[str, tuple[float, float]] = {}  # name -> (requests left, when)

    def admit(self, authorization: str | None, *, counted: bool) -> None:
        """Return if the request may go on.

        Args:
            authorization: the header `Authorization`.
            counted: whether it is one of the requests that a minute has so many of.

        Raises:
            ApiError: 401; 429 with `Retry-After`.
        """
        name = self._name(authorization)
        if not counted or self._limit is None:
            return
        now = self._clock()
        left, before = self._buckets.get(name, (float(self._limit), now))
        left = min(float(self._limit), left + (now - before) * self._limit / 60)
        if left < 1:
            seconds = math.ceil((1 - left) * 60 / self._limit)
            raise ApiError(
                429,
                "rate_limit_exceeded",
                f"This key has {self._limit} requests a minute.",
                headers={"Retry-After": str(seconds)},
            )
        self._buckets[name] = (left - 1, now)

    def _name(self, authorization: str | None) -> str:
        if self._keys is None:
            return ""
        scheme, _, key = (authorization or "").partition(" ")
        digest = _hash(key.strip())
        # All are compared, each in constant time, so that the time tells nothing.
        matches = [name for name, each in self._keys.items() if hmac.compare_digest(each, digest)]
        if scheme.lower() != "bearer" or not matches:
            message = "No valid key: send one as `Authorization: Bearer KEY`."
            if scheme.lower() == "bearer":
                message = "The key is not known here."
            raise ApiError(401, "invalid_api_key", message, headers={"WWW-Authenticate": "Bearer"})
        return matches[0]


def _hash(key: str) -> str:
    # Headers arrive as latin-1, of which every byte may be a key's.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
