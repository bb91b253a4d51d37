"""The package's version, for whoever stamps it on what was made."""

__version__ = "0.1.0"
