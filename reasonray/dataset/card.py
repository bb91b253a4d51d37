"""`README.md` of an output or an export: a dataset card, as `datasets` and the Hub read it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from reasonray.core.place import Place
from reasonray.core.record import ACCEPTED_SCHEMA, DESCRIPTIONS
from reasonray.core.writing import write_file
from reasonray.dataset.manifest import Manifest

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


CARD = "README.md"


def write_card(output: Place, manifest: Manifest, licenses: Mapping[str, int]) -> None:
    """Write the card.

    Args:
        output: the folder.
        manifest: its counts, parts and models are told.
        licenses: the sources' licences and how many accepted rows have each.
    """
    fields = {name: DESCRIPTIONS[name] for name in ACCEPTED_SCHEMA.names}
    write_file(output / CARD, render("card.md", manifest, licenses, fields=fields))


def render(template: str, manifest: Manifest, licenses: Mapping[str, int], **content: Any) -> str:
    """The text of a card, an output's or an export's.

    Args:
        template: its path below this file's folder.
        manifest: of the output.
        licenses: the sources' licences and how many samples have each.
        content: what else the template shows.
    """
    page = _TEMPLATES.get_template(template)
    return page.render(manifest=manifest, licenses=licenses, **content)
