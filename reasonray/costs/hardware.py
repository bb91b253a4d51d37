"""The machines that a plan counts with: their data sheets' figures, and a price to replace."""

from dataclasses import dataclass

from reasonray.core.errors import UserError
from reasonray.core.recipe import nearest


@dataclass(frozen=True)
class Hardware:
    """One GPU, or one core of a CPU.

    Attributes:
        name: as `--gpu` takes it.
        half: TFLOP/s in float16 and bfloat16, dense, at most.
        single: TFLOP/s in float32 without TF32, which torch leaves off for matrices.
        bandwidth: GB/s of its memory.
        memory: GiB, as the driver gives it.
        price: assumed, dollars an hour.
    """

    name: str
    half: float
    single: float
    bandwidth: float
    memory: float
    price: float

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU, not cores."""
        return self.name != "cpu"

    @property
    def unit(self) -> str:
        """What is counted and rented: the GPU's name, or a core."""
        return self.name.upper() if self.is_gpu else "core"

    @property
    def one(self) -> str:
        """The unit with its article."""
        return f"an {self.unit}" if self.is_gpu else f"a {self.unit}"

    def peak(self, dtype: str) -> float:
        """FLOP/s at most in a recipe's dtype; auto is float16 on a GPU, float32 on a CPU."""
        half = dtype in ("float16", "bfloat16") or (dtype == "auto" and self.is_gpu)
        return (self.half if half else self.single) * 1e12

    def bytes_of(self, dtype: str) -> int:
        """Of one number in a recipe's dtype."""
        half = dtype in ("float16", "bfloat16") or (dtype == "auto" and self.is_gpu)
        return 2 if half else 4


GIB = 1024**3

KINDS = {
    kind.name: kind
    for kind in (
        # NVIDIA's data sheets: H200 and H100 SXM, A100 SXM 80 GB, L4. Prices are assumed.
        Hardware("h200", half=989, single=67, bandwidth=4800, memory=139, price=3.8),
        Hardware("h100", half=989, single=67, bandwidth=3350, memory=79, price=3.0),
        Hardware("a100", half=312, single=19.5, bandwidth=2039, memory=79, price=1.8),
        Hardware("l4", half=121, single=30.3, bandwidth=300, memory=22, price=0.8),
        # A server core with 256-bit vectors at 3 GHz; 4 GiB and a share of the memory's bandwidth.
        Hardware("cpu", half=0.1, single=0.1, bandwidth=10, memory=4, price=0.05),
    )
}


def hardware(name: str) -> Hardware:
    """The machine of a name.

    Raises:
        UserError: there is none.
    """
    if name not in KINDS:
        raise UserError(f"--gpu {name}: unknown{nearest(name, list(KINDS))}")
    return KINDS[name]
