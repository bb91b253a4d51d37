"""The mini zoo: tiny models of the mini world, a laptop-sized stand-in for the paper's checkpoints.

`training` makes them of scenes that `sources.mini` draws, `evaluation` measures them through the
production stages. Of the rest of the package only the command line knows it; a recipe names the
zoo's folders as it names any other model.
"""

from pathlib import Path

ZOO = Path(__file__).parent / "zoo"
"""A folder for each of the tiny models."""
