"""`README.md` of an export: what it is, how to read it and where it comes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from reasonray.core.writing import write_file
from reasonray.dataset.manifest import Manifest

_CONFIGS = """\
configs:
- config_name: default
  data_files:
  - split: train
    path: train/*.parquet
"""

_LAYOUTS = {
    "instructpix2pix": """\
The original layout, which `edit_dataset.py` of
[instruct-pix2pix](https://github.com/timothybrooks/instruct-pix2pix) reads: set
`data.params.train.params.path` and `data.params.validation.params.path` in `configs/train.yaml`
to this folder.

```text
seeds.json                          prompt folders and their seeds, in a random order that keeps
                                    the rows of one input together
shard-00/0000000/prompt.json        caption, edit (the instruction), output
shard-00/0000000/<seed>_0.jpg       the input
shard-00/0000000/<seed>_1.jpg       the edited image
shard-00/0000000/metadata.jsonl     seed (the sample's variation), the sample's id, the kind of
                                    instruction
```
""",
    "diffusers": """\
The columns that diffusers'
[`train_instruct_pix2pix.py`](https://github.com/huggingface/diffusers/tree/main/examples/instruct_pix2pix)
reads by default: `input_image`, `edit_prompt` (the instruction), `edited_image`.

```console
$ accelerate launch train_instruct_pix2pix.py --dataset_name FOLDER \\
    --pretrained_model_name_or_path MODEL --resolution 256
```
""",
    "magicbrush": """\
The columns of [MagicBrush](https://huggingface.co/datasets/osunlp/MagicBrush).

- `img_id`: the sample's id and the kind of instruction, quoted as in a URL
- `turn_index`: 1; no edit builds on another
- `source_img`: the input
- `mask_img`: the input as RGBA, white and transparent (alpha 0) where it was edited; everywhere,
  for pairs of Part I, of which that is not known
- `instruction`: the instruction
- `target_img`: the edited image
""",
}


def write_card(
    folder: Path,
    format: str,
    manifest: Manifest,
    kinds: Sequence[str],
    num_samples: Mapping[str, int],
    licenses: Mapping[str, int],
) -> None:
    """Write the card.

    Args:
        folder: of the export.
        format: one of `WRITERS`.
        manifest: of the output that was exported.
        kinds: of instructions: reasoning, direct.
        num_samples: of each part.
        licenses: the sources' licences and how many samples have each.
    """
    total = sum(num_samples.values())
    models = sorted({model.name for model in manifest.models})
    layout = _LAYOUTS[format]
    lines = [
        "---",
        # Files of the other layout are no dataset that `datasets` could open.
        *(_CONFIGS.splitlines() if format != "instructpix2pix" else []),
        "task_categories:",
        "- image-to-image",
        "tags:",
        "- image-editing",
        *(["- reasoning"] if "reasoning" in kinds else []),
        "---",
        "",
        f"# Image editing with {' and '.join(kinds)} instructions",
        "",
        f"{total * len(kinds)} rows: {total} samples, each with its {' and its '.join(kinds)} "
        f"instruction. Made by reasonray {manifest.reasonray} (recipe {manifest.recipe_hash}), "
        f"exported as `{format}`.",
        "",
        layout,
        "## Samples",
        "",
        "| part | samples | |",
        "|---|---|---|",
        *(f"| {part} | {count} | {_PARTS[part]} |" for part, count in num_samples.items()),
        "",
        "## Licences of the inputs",
        "",
        *(f"- {name}: {count} samples" for name, count in sorted(licenses.items())),
        "",
        "## Models",
        "",
        *(f"- {name}" for name in models),
    ]
    write_file(folder / "README.md", "\n".join(lines) + "\n")


_PARTS = {
    "I": "an existing pair with a new instruction",
    "II": "an edit painted on the input of such a pair",
    "III": "an edit painted on a photograph",
}
