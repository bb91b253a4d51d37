"""Before a language model's server is paid: what will be asked of it, and what that costs."""

import ipaddress
import os
import sys
from urllib.parse import urlsplit

import click

from reasonray.core.console import say
from reasonray.core.recipe import Recipe


def approve(recipe: Recipe, rows: dict[str, int], *, may_ask: bool) -> None:
    """Say what a run will ask of a language model's server, and ask on a terminal.

    A server on this machine or in a private network is asked without a question: it costs nothing
    by the token, unless the recipe has prices.

    Args:
        recipe: checked.
        rows: part -> rows to do.
        may_ask: False: only say.

    Raises:
        click.Abort: the answer is no.
    """
    if recipe.language_model.backend != "openai":
        return
    from reasonray.costs.asking import asking

    server, ahead = recipe.language_model.server, asking(recipe, rows)
    if not ahead.requests:
        return
    url = server.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    cost = (
        "; with language_model.server.prompt_price and completion_price, dollars are told"
        if ahead.dollars is None
        else f": ${ahead.dollars:,.2f}"
    )
    rounds = (
        f"; so do the inputs after these, told anew, until {recipe.accepted:,} samples are made"
        if recipe.accepted is not None
        else ""
    )
    say(
        f"{recipe.language_model.model.name} at {url}: about {ahead.requests:,} requests, "
        f"{_millions(ahead.prompt_tokens)} tokens read, {_millions(ahead.completion_tokens)} "
        f"written{cost}. Thoughts, and replies that are asked for again, come on top{rounds}"
    )
    if may_ask and sys.stdin.isatty() and (ahead.dollars or not _is_private(url)):
        click.confirm("Go on?", abort=True, err=True)


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g} M" if count >= 1e5 else f"{count:,}"


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host
