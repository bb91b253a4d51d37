"""The mini world: scenes of emoji objects, drawn when asked for, in real datasets' formats."""
