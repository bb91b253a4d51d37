"""How the zoo is made: `loop` is the resumable optimiser loop, then one file for each model."""
