"""`README.md` of an output: a dataset card that `datasets` and the Hugging Face Hub understand."""

from collections.abc import Mapping
from pathlib import Path

from reasonray.dataset import Manifest
from reasonray.record import ACCEPTED_SCHEMA
from reasonray.workspace import write_file

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

_FIELDS = {
    "id": "stable, from the source's own ids",
    "part": "I: an existing pair with a new instruction; II, III: a pair painted here",
    "source": "where the input comes from",
    "source_id": "its id there",
    "input_image": "the input, its bytes as the source has them",
    "edited_image": "the answer",
    "input_caption": "what the input shows",
    "edited_caption": "what the answer shows",
    "instruction": "the reasoning instruction: it never names the target",
    "direct_instruction": "the same edit, said directly",
    "rationale": "one sentence that leads from the instruction to the target",
    "reasoning_type": "knowledge, causal, temporal, spatial, logical or cultural",
    "candidates": "Part I: the instructions that were chosen from",
    "categories": "Parts II and III: what could have been replaced",
    "selected_category": "what is replaced",
    "target_category": "by what",
    "box": "where: x0, y0, x1, y1 in pixels of the input, EXIF orientation applied",
    "scores": "what was measured of the pair",
    "provenance": "models, prompts, recipe and seed: enough to make the row again",
    "license": "of the source",
}


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
        *(f"- `{name}`: {_FIELDS[name]}" for name in ACCEPTED_SCHEMA.names),
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
