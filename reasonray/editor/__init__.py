"""The reasoning editor: its model (`pipeline`), the features it is trained on, its training."""
