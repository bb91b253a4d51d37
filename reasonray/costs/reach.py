"""What part of a machine's peak each model reaches, where no run of one's own was measured.

The figures are of the production classes with the models of `paper` at full size, on pictures of
1024 x 768, as `python tests/benchmarks/gpu.py` prints them; a part of the peak holds on other cards
better than seconds do.
"""

from dataclasses import dataclass

from reasonray.costs.hardware import Hardware

CARD = "NVIDIA H200"
"""That they were measured on, with torch 2.11, in batches of 16 (features: 8, training: 64)."""


@dataclass(frozen=True)
class Reach:
    """Of one model.

    Attributes:
        utilisation: part of the peak FLOP/s, 0..1.
        call_s: seconds of Python and kernel launches in one forward pass, however small the model
            and the batch.
    """

    utilisation: float
    call_s: float


ASSUMED = Reach(0.2, 0.03)
"""Of cores, and of what was not measured. 50 steps of Stable Diffusion 1.5 and its VAE are 83
TFLOP; an A100 takes 1.6 s for one picture, 0.17 of its peak
(github.com/fal-ai/stable-diffusion-benchmarks), and a batch does somewhat better."""

# Of float32, though its matrices are multiplied as TF32.
_DETECTOR = Reach(0.49, 0.05)
MEASURED = {
    # Word by word, each a pass over a small batch: launches decide, whatever the peak.
    "caption": Reach(ASSUMED.utilisation, 0.016),
    "ground": _DETECTOR,
    "quality": _DETECTOR,
    "paint": Reach(0.22, 0.03),
    "features": Reach(0.13, 0.03),
    "training": Reach(0.17, 0.06),
}
"""Stage, or part of the editor's training -> what it reaches on `CARD`."""


def reach(name: str, machine: Hardware, utilisation: float | None) -> Reach:
    """What a model reaches on a machine.

    Args:
        name: of a stage, or "features" or "training".
        machine: what was measured is taken for GPUs alone.
        utilisation: for all models; None: as measured, or assumed.
    """
    known = MEASURED.get(name, ASSUMED) if machine.is_gpu else ASSUMED
    return known if utilisation is None else Reach(utilisation, known.call_s)
