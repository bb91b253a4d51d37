"""What is a URI and what a path; without the packages that read them."""


def is_local(uri: str) -> bool:
    """Whether it is a plain path, one with "://" in a file's name too."""
    return "://" not in uri or uri.startswith(("/", ".", "~"))
