"""Names and texts that others have written, in tables of Markdown and LaTeX."""

import re

_LATEX = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }
)

# Within a word _ means nothing: temporal_reasoning stays as it is.
_MARKDOWN = re.compile(r"([\\|`*<>\[\]]|(?<!\w)_|_(?!\w))")


def markdown_cell(text: str) -> str:
    """A text on one line, in which nothing ends the cell or is a sign of Markdown."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def latex_text(text: str) -> str:
    """A text whose letters stand for themselves in LaTeX."""
    return text.translate(_LATEX)
