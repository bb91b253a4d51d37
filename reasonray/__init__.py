"""reasonray: image-editing datasets with reasoning instructions, made on a Ray cluster."""
