"""reasonray: image-editing datasets with reasoning instructions, made on a Ray cluster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reasonray.core.extras import explained
from reasonray.core.version import __version__ as __version__

if TYPE_CHECKING:
    from reasonray.dataset.export import export
    from reasonray.dataset.reading import read
    from reasonray.editor.job import train
    from reasonray.generation.run import generate

__all__ = ["export", "generate", "read", "train"]

_MODULES = {
    "export": "reasonray.dataset.export",
    "generate": "reasonray.generation.run",
    "read": "reasonray.dataset.reading",
    "train": "reasonray.editor.job",
}


def __getattr__(name: str) -> Any:
    """Load what is exported at its first use: `import reasonray` takes no time.

    Raises:
        UserError: it needs an extra that is not installed.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    with explained(preferred=name):
        return getattr(import_module(_MODULES[name]), name)
