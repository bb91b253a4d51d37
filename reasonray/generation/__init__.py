"""A run: from a recipe to a finished output; killed, and gone on with."""
