"""A training step with cached features against one that computes them, and what FLOPs predict.

    python tests/benchmarks/editor_features.py

The mini zoo's LLaVA and VAE, frozen (forward only), and a UNet of 4 M parameters with its
connector (forward and backward); CPU time of one thread. Pairs of runs in turn, the median of their
ratios, so that other work on the machine favours neither.
"""

import tempfile
from pathlib import Path
from statistics import median

import tiny_training
import torch
from torch.utils.flop_counter import FlopCounterMode

from reasonray.core.editor_sections import EditorConfig
from reasonray.editor.batches import Samples
from reasonray.editor.online import Online

ROUNDS = 7


def flops(config: EditorConfig, online: Online, cached: Samples) -> tuple[int, int]:
    """Of the frozen models for a step's samples, and of the step itself."""
    with FlopCounterMode(display=False) as frozen:
        online.take([(index, 0) for index in range(tiny_training.BATCH)])
    with FlopCounterMode(display=False) as trained:
        tiny_training.seconds(config.model_copy(update={"num_steps": 1}), cached)
    return frozen.get_total_flops(), trained.get_total_flops()


def main() -> None:
    """Print both ratios."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = tiny_training.config(folder)
        data = tiny_training.data(folder / "data")
        cached = tiny_training.cached(config, data, folder / "features")
        online = Online(config, data, ["I"])
        frozen, trained = flops(config, online, cached)
        measured = []
        for number in range(ROUNDS):
            pair = [tiny_training.seconds(config, samples) for samples in (online, cached)]
            measured.append(pair)
            print(f"{number + 1}: online {pair[0]:.3f} s a step of {tiny_training.BATCH}, "
                  f"cached {pair[1]:.3f} s, {pair[0] / pair[1]:.2f} times", flush=True)  # fmt: skip
    speedup = median(slow / fast for slow, fast in measured)
    predicted = (frozen + trained) / trained
    print(f"FLOPs a step: frozen models {frozen / 1e9:.1f} G, the rest {trained / 1e9:.1f} G; "
          f"predicted {predicted:.2f} times, measured {speedup:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
