"""A mini world made on the spot, in both formats of the paper; the two readers do the rest."""

import re
import tempfile
from pathlib import Path

from reasonray.core.errors import UserError
from reasonray.core.place import Place, make_folder
from reasonray.core.sections import SourceConfig
from reasonray.core.writing import send, write_file
from reasonray.sources.mini.formats import LICENSE, write_instructpix2pix, write_v3det
from reasonray.sources.mini.scenery import PLAIN, named
from reasonray.sources.mini.world import HELD_OUT_SEED, require_packages


def make(source: SourceConfig, workdir: Place) -> list[SourceConfig]:
    """Write the world (once) and say where it is.

    Args:
        source: its path is COUNT[@SEED][,SCENERY[,MEGAPIXELS]]: so many pairs and so many photos;
            SEED is the first scene's, by default the first that no model was trained on; SCENERY
            is plain, shapes or real, its pictures have MEGAPIXELS at most.
        workdir: a folder or its URI; what is already there from an earlier call is used.

    Raises:
        UserError: the path is of another form, or the drawing packages are not installed.
    """
    match = re.fullmatch(
        r"([1-9][0-9]*)(?:@([0-9]+))?(?:,([a-z]+)(?:,([0-9]+(?:\.[0-9]+)?))?)?", source.path
    )
    if match is None:
        raise UserError(
            f"source mini={source.path}: expected COUNT[@SEED][,SCENERY[,MEGAPIXELS]], "
            "e.g. mini=48 or mini=48,real,12"
        )
    require_packages()
    try:
        scenery = named(match[3] or "plain", float(match[4]) if match[4] else None)
    except UserError as error:
        raise UserError(f"source mini={source.path}: {error}") from error
    count = int(match[1])
    first_seed = int(match[2]) if match[2] else HELD_OUT_SEED
    name = f"{count}@{first_seed}"
    if scenery != PLAIN:
        name += f",{match[3]},{scenery.megapixels[1]:g}"
    world = workdir / "mini" / name
    is_here = isinstance(world, Path)
    complete = world if is_here else world.with_name(f"{world.name}.complete")
    if not complete.exists():
        make_folder(world.parent)
        beside = str(world.parent) if is_here else None
        with tempfile.TemporaryDirectory(prefix=".world-", dir=beside) as folder:
            whole = Path(folder) / "world"
            write_instructpix2pix(whole / "instructpix2pix", count, first_seed, scenery)
            write_v3det(whole / "v3det", count, first_seed + count, scenery)
            if isinstance(world, Path):
                whole.rename(world)
            else:
                # Nothing is removed first: a run that was taken for dead may be at it, too.
                pictures = [path for path in whole.rglob("*") if path.is_file()]
                send(whole, world, [path.relative_to(whole).as_posix() for path in pictures])
                write_file(complete, "")
    terms = source.license or LICENSE
    return [
        SourceConfig(format="instructpix2pix", path=str(world / "instructpix2pix"), license=terms),
        SourceConfig(format="v3det", path=str(world / "v3det"), split=source.split, license=terms),
    ]
