"""Packages that the base does without: which extra of ours brings one that is missing."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from reasonray.core.errors import UserError


@contextmanager
def explained(preferred: str | None = None) -> Iterator[None]:
    """Where an import fails for want of an extra, say which.

    Args:
        preferred: the extra that is named if several bring the package; else the first does.

    Raises:
        UserError: names the package and the extra. What none of our extras brings, a module of
            our own above all, fails as before.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extras = _extras_with(error.name or "")
        if not extras:
            raise
        extra = preferred if preferred in extras else extras[0]
        raise UserError(
            f"the package {error.name} is not installed; it comes with the extra {extra}: "
            f"pip install 'reasonray[{extra}]'"
        ) from error


def require(*modules: str) -> None:
    """Look for packages before any work is done, without importing them.

    Raises:
        UserError: as `explained`, of the first that is missing.
    """
    from importlib.util import find_spec

    with explained():
        for module in modules:
            if find_spec(module) is None:
                raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def _extras_with(module: str) -> list[str]:
    """Of our own package's metadata; a module's name is its package's but for dashes and case."""
    from importlib import metadata

    try:
        requirements = metadata.requires("reasonray") or []
    except metadata.PackageNotFoundError:  # a checkout that was not installed
        return []
    extras = []
    for requirement in requirements:
        match = re.match(r"""([\w.-]+).*;.*\bextra == ["']([\w-]+)""", requirement)
        if match and re.sub("[-.]", "_", match[1]).lower() == module.lower():
            extras.append(match[2])
    return extras
