"""Pages that we write for people, as far as they can be judged without a browser."""

import html.parser

from reasonray.core.place import Place


class Page(html.parser.HTMLParser):
    """Which tags a page has, what its attributes point to, and whether tags are closed.

    Args:
        path: of the file.
    """

    VOID = frozenset(["meta", "link", "img", "input", "br", "rect", "line"])

    def __init__(self, path: Place) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(self.text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
