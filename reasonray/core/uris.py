"""What is a URI and what a path, and how patient those are who read them."""

import fsspec.config

# botocore gives up within seconds otherwise; this outlasts a store that is away for a minute. Here,
# as whoever opens anything on a store comes by.
fsspec.config.conf.setdefault("s3", {}).setdefault(
    "config_kwargs", {"retries": {"mode": "standard", "max_attempts": 12}}
)


def is_local(uri: str) -> bool:
    """Whether it is a plain path, one with "://" in a file's name too."""
    return "://" not in uri or uri.startswith(("/", ".", "~"))
