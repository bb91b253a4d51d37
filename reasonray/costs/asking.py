"""What a run asks its language model: requests, tokens and, where prices are given, dollars."""

from collections.abc import Mapping
from dataclasses import dataclass

from reasonray.core.recipe import Recipe
from reasonray.core.sections import ASKING
from reasonray.models.chat_pictures import CHARACTERS_A_TOKEN
from reasonray.prompts.examples import NUM_EXAMPLES, varied
from reasonray.prompts.template import load
from reasonray.stages import stage_class

FIELD_TOKENS = 80
"""Of the captions, words and objects' places that are filled into a prompt."""


@dataclass(frozen=True)
class Asking:
    """Of a whole run, every row asked about once in each stage that serves its part.

    Attributes:
        requests: to the language model.
        prompt_tokens: that it reads.
        completion_tokens: that it writes, of plain JSON: a model that reasons aloud writes more.
        dollars: of both; None where the recipe has no prices.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None


def asking(recipe: Recipe, parts: Mapping[str, int]) -> Asking:
    """What some rows will cost at the language model.

    Args:
        recipe: its prompts, the lengths of its replies and its prices.
        parts: part -> rows to do.
    """
    requests = prompt_tokens = completion_tokens = 0
    for name in ASKING:
        rows = sum(parts.get(part, 0) for part in stage_class(name).parts)
        prompt, reply = tokens(name, recipe)
        requests += rows
        prompt_tokens += rows * prompt
        completion_tokens += rows * reply
    return Asking(
        requests=requests,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        dollars=dollars(recipe, prompt_tokens, completion_tokens),
    )


def dollars(recipe: Recipe, prompt_tokens: float, completion_tokens: float) -> float | None:
    """What so many tokens cost; None where the recipe has no prices."""
    server = recipe.language_model.server
    if server.prompt_price is None or server.completion_price is None:
        return None
    spent = prompt_tokens * server.prompt_price + completion_tokens * server.completion_price
    return spent / 1e6


def tokens(name: str, recipe: Recipe) -> tuple[int, int]:
    """Of a stage's prompt as it stands in `prompts/`, and of a plain reply in its JSON."""
    section = getattr(recipe.stages, name)
    candidates = recipe.stages.rewrite.num_candidates
    template = load(ASKING[name])
    varying = varied(ASKING[name], seed=0)["examples"] if ASKING[name] in NUM_EXAMPLES else ""
    prompt = len(template.system + template.user + varying) // CHARACTERS_A_TOKEN + FIELD_TOKENS
    if name == "rewrite":
        return prompt, min(10 + 70 * candidates, section.max_tokens)
    if name == "select":
        return prompt + 25 * candidates, min(40, section.max_tokens)
    return prompt, min(120, section.max_tokens)
