"""The mini world and the mini zoo: a laptop-sized stand-in for the paper's data and checkpoints.

`catalogue` says what exists and how it is related, `world` draws scenes of it, `formats` writes
them in the layouts of InstructPix2Pix and V3Det, `training` makes the zoo's models, `evaluate`
measures them through the production stages. Nothing outside this folder knows of it.
"""
