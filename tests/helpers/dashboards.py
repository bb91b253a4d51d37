"""What a Grafana dashboard or a file of Prometheus rules asks for, and what an endpoint has."""

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

# What is in quotes and in the brackets of a range: no metric stands there.
_TEXT = re.compile(r'"[^"]*"')
_RANGE = re.compile(r"\[[^\]]*\]")
_GROUPED = re.compile(r"\bby\s*\(([^)]*)\)\s*\(")
_SELECTOR = re.compile(r"\b(ray_\w+)\s*(?:\{([^}]*)\})?")


def panels(file: Path) -> list[dict[str, Any]]:
    """Those that show something, without rows' titles."""
    everything: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["panels"]
    return [panel for panel in everything if panel["type"] != "row"]


def expressions(file: Path) -> Iterator[str]:
    for panel in panels(file):
        for target in panel["targets"]:
            yield target["expr"]


def requirements(expressions: Iterable[str]) -> dict[str, set[str]]:
    """Name of a metric -> the labels that expressions, `by (…) (…)`, select or group it by."""
    labels: dict[str, set[str]] = defaultdict(set)
    for expression in expressions:
        plain = _RANGE.sub("", _TEXT.sub('""', expression))
        for name, matchers in _SELECTOR.findall(plain):
            labels[name] |= set(re.findall(r"(\w+)\s*(?:=|!)", matchers))
        for grouped in _GROUPED.finditer(plain):
            names = {each.strip() for each in grouped[1].split(",")}
            for name, _ in _SELECTOR.findall(_until_closed(plain[grouped.end() :])):
                labels[name] |= names
    return dict(labels)


def _until_closed(text: str) -> str:
    """What stands before the bracket that closes one which is open already."""
    depth = 1
    for i, letter in enumerate(text):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth == 0:
            return text[:i]
    raise ValueError(f"a bracket is not closed: {text}")


def offered(text: str) -> dict[str, set[str]]:
    """Name of a sample -> the labels that it has, of an endpoint in Prometheus' text format."""
    labels: dict[str, set[str]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels[sample.name] |= set(sample.labels)
    return dict(labels)


def missing(required: dict[str, set[str]], offer: dict[str, set[str]]) -> list[str]:
    """What would stay empty: `NAME` or `NAME{LABEL}`."""
    return [name for name in required if name not in offer] + [
        f"{name}{{{label}}}"
        for name, labels in required.items()
        if name in offer
        for label in sorted(labels - offer[name])
    ]


def never_told(
    required: dict[str, set[str]], scrape: Callable[[], str], timeout_s: float = 60
) -> list[str]:
    """What is `missing` of all that an endpoint tells within some time.

    Ray's processes report every 10 s, and of each report a gauge is told once: who asks more often
    does not find it each time.
    """
    told: dict[str, set[str]] = defaultdict(set)
    deadline = time.monotonic() + timeout_s
    while True:
        for name, labels in offered(scrape()).items():
            told[name] |= labels
        lacking = missing(required, told)
        if not lacking or time.monotonic() > deadline:
            return lacking
        time.sleep(1)
