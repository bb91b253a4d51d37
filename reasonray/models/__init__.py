"""Loaders and samplers of the models; they know nothing of rows, stages or Ray."""
