"""What our pages for people share: how their templates are read, `base.css` and `picture.html`."""

from pathlib import Path

import jinja2

from reasonray.core.console import duration


def environment(folder: Path) -> jinja2.Environment:
    """For the templates of a folder, and those here. What they show is escaped.

    Args:
        folder: of this package.
    """
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["number"] = lambda value: f"{value:,}"
    templates.filters["duration"] = duration
    return templates
