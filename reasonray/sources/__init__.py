"""Readers: one file for each on-disk format, each giving plan rows and, later, image bytes."""
