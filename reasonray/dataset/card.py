"""`README.md` of an output: a dataset card that `datasets` and the Hugging Face Hub understand."""

from collections.abc import Mapping
from pathlib import Path

from reasonray.core.record import ACCEPTED_SCHEMA, DESCRIPTIONS
from reasonray.core.writing import write_file
from reasonray.dataset.manifest import Manifest

_HEAD = """\
---
configs:
- config_name: accepted
  data_files: accepted/*.parquet
  default: true
- config_name: rejected
  data_files: rejected/*.parquet
task_categories:
- image-to-image
tags:
- image-editing
- reasoning
---
"""


def write_card(output: Path, manifest: Manifest, licenses: Mapping[str, int]) -> None:
    """Write the card.

    Args:
        output: the folder.
        manifest: its counts, parts and models are told.
        licenses: the sources' licences and how many accepted rows have each.
    """
    models = sorted({model.name for model in manifest.models})
    lines = [
        _HEAD,
        "# Image editing with reasoning instructions",
        "",
        f"{manifest.accepted} samples, made by reasonray {manifest.reasonray} from "
        f"{manifest.inputs} inputs; the other {manifest.rejected} stand in the config "
        "`rejected`, each with the stage and the reason.",
        "",
        "```python",
        "import datasets",
        "",
        'samples = datasets.load_dataset("FOLDER", split="train")',
        'rejections = datasets.load_dataset("FOLDER", "rejected", split="train")',
        "```",
        "",
        "| part | accepted | rejected |",
        "|---|---|---|",
        *(f"| {part} | {n.accepted} | {n.rejected} |" for part, n in manifest.parts.items()),
        "",
        "## Fields",
        "",
        *(f"- `{name}`: {DESCRIPTIONS[name]}" for name in ACCEPTED_SCHEMA.names),
        "",
        "## Licences of the inputs",
        "",
        *(f"- {name}: {count} samples" for name, count in sorted(licenses.items())),
        "",
        "## Models",
        "",
        *(f"- {name}" for name in models),
        "",
        "`manifest.json` has the recipe, the counts and the timings.",
    ]
    write_file(output / "README.md", "\n".join(lines) + "\n")
