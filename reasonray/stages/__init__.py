"""The pipeline's steps, one file each; pure classes that know nothing of Ray."""
