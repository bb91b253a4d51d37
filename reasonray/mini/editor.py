"""The tiny editor, kept in the zoo as what its training has changed in the zoo's InstructPix2Pix.

Its parts stand in the zoo but for the connector. Of the UNet's changes the largest are kept, as
products of two narrow matrices: whole, they would be as large as the UNet.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reasonray.core.errors import UserError
from reasonray.core.place import Place, names, reached
from reasonray.core.writing import filled
from reasonray.mini import ZOO

EDITOR = ZOO / "editor"
CHANGES = "changes.safetensors"
SETTINGS = "training.json"
UNET = "unet/diffusion_pytorch_model.safetensors"
CONNECTOR = "connector/diffusion_pytorch_model.safetensors"
SMALL = 16
"""A matrix with a side of this or less, a bias or a norm is kept whole."""
NUM_BYTES = 2_400_000
"""Of the UNet's changes, float16."""


def keep(editor: Path, folder: Path = EDITOR, num_bytes: int = NUM_BYTES) -> None:
    """Put an editor that `reasonray train mini` has made into the zoo.

    Args:
        editor: its folder.
        folder: gets the changes, the connector's weights, and the training's settings.
        num_bytes: of the UNet's changes, about.

    Raises:
        UserError: it is no editor of the zoo's base and a multimodal model.
    """
    from safetensors.torch import load_file, save_file

    if not (editor / CONNECTOR).exists() or not (editor / SETTINGS).exists():
        raise UserError(f"{editor}: not an editor of `reasonray train mini`")
    trained, base = load_file(editor / UNET), load_file(ZOO / "instructpix2pix" / UNET)
    shapes = [{name: value.shape for name, value in each.items()} for each in (trained, base)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{editor}: its UNet is not of the shape of the zoo's InstructPix2Pix")
    changes = {name: trained[name].float() - base[name].float() for name in base}
    tensors = {
        f"unet.{name}": value.half().contiguous()
        for name, value in _shrunk(changes, num_bytes).items()
    }
    connector = load_file(editor / CONNECTOR)
    tensors |= {f"connector.{name}": value.half() for name, value in connector.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / CHANGES)
    settings = json.loads((editor / SETTINGS).read_text())["editor"]
    (folder / SETTINGS).write_text(json.dumps({"editor": settings}, indent=2) + "\n")
    shutil.copytree(editor / "scheduler", folder / "scheduler", dirs_exist_ok=True)


def write(output: Place, folder: Path = EDITOR) -> None:
    """Write the zoo's editor as a diffusers folder, as if it had been trained there.

    Args:
        output: new; a folder or a URI of a store.
        folder: that `keep` has written.

    Raises:
        UserError: there is something already.
    """
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from safetensors.torch import load_file

    from reasonray.core.editor_sections import EditorConfig
    from reasonray.editor.connector import Connector
    from reasonray.editor.finished import INDEX
    from reasonray.editor.frozen import Frozen
    from reasonray.editor.pipeline import ReasonEditPipeline

    with reached(output):
        is_there = bool(names(output)) or output.exists()
    if is_there:
        raise UserError(f"--output {output}: is there already; give a new folder")
    settings = json.loads((folder / SETTINGS).read_text())
    # The text encoder, which alignment imitates, is no part of the editor.
    config = EditorConfig.model_validate(settings["editor"] | {"alignment_steps": 0})
    frozen, tensors = Frozen(config), load_file(folder / CHANGES)
    unet: Any = UNet2DConditionModel.from_pretrained(
        ZOO / "instructpix2pix" / "unet", torch_dtype=torch.float32
    )
    changes = _under("unet.", tensors)
    with torch.no_grad():
        for name, value in unet.state_dict().items():
            value += _change(name, changes, value.shape)
    width = frozen.mllm.config.text_config.hidden_size
    connector = Connector.of(config.connector, width, unet.config.cross_attention_dim)
    connector.load_state_dict(_under("connector.", tensors))
    pipeline = ReasonEditPipeline(
        vae=frozen.vae,
        unet=unet,
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
        mllm=frozen.mllm,
        processor=frozen.processor,
        connector=connector,
        tokens=config.tokens,
    )
    with filled(output, last=INDEX) as temporary:
        pipeline.save_pretrained(temporary)
        for name in (SETTINGS, "README.md"):
            shutil.copy(folder / name, temporary / name)


def _shrunk(changes: Mapping[str, Tensor], num_bytes: int) -> dict[str, Tensor]:
    """Changes by name: small ones whole, of others the products that say most for their size."""
    kept: dict[str, Tensor] = {}
    factors: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    products: list[tuple[float, int, str]] = []
    for name, change in changes.items():
        rows = change.shape[0]
        if change.dim() < 2 or min(rows, change.numel() // rows) <= SMALL:
            kept[name] = change
            continue
        left, values, right = torch.linalg.svd(change.flatten(1), full_matrices=False)
        factors[name] = left, values, right
        cost = len(left) + right.shape[1]
        products += [(value**2 / cost, cost, name) for value in values.tolist()]
    room = num_bytes // 2 - sum(value.numel() for value in kept.values())
    ranks = dict.fromkeys(factors, 0)
    for _, cost, name in sorted(products, reverse=True):
        if cost <= room:
            room -= cost
            ranks[name] += 1
    for name, rank in ranks.items():
        left, values, right = factors[name]
        root = values[:rank].sqrt()
        kept[f"{name}.left"] = left[:, :rank] * root
        kept[f"{name}.right"] = root[:, None] * right[:rank]
    return kept


def _change(name: str, changes: Mapping[str, Tensor], shape: torch.Size) -> Tensor:
    if name in changes:
        return changes[name].float()
    return (changes[f"{name}.left"].float() @ changes[f"{name}.right"].float()).view(shape)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
