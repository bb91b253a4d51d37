"""Whose fault it is that a server gives no reply, and what to do: pure decisions on a `Fault`.

The server's or the account's stops the run, to be resumed, in the provider's words; a request's
form is changed; one prompt's is that prompt's failure.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reasonray.core.errors import RunError
from reasonray.core.sections import LanguageModelConfig
from reasonray.models.chat_answer import Fault
from reasonray.models.language_model import ReplyFailure

LONGEST_WAIT_S = 900.0
"""A server that asks for a longer pause stops the run: better resumed than asleep."""


@dataclass(frozen=True)
class Change:
    """The server does not take something of the request as it was: send it changed.

    Attributes:
        name: a parameter or a keyword of the JSON schema, to be left out; or system (its text goes
            into the user's turn), stream (ask for one), limit (halve it).
    """

    name: str


@dataclass(frozen=True)
class Later:
    """It may go better at the next try.

    Attributes:
        detail: a clause for messages, without a full stop.
        wait: seconds until then, as the server asks; None: our own backoff.
        blames_server: every prompt would meet this now, so all wait, and the last try stops the
            run; otherwise the prompt fails alone.
        is_late: no reply came in time, which may be this prompt's or that of too many at once.
    """

    detail: str
    wait: float | None = None
    blames_server: bool = False
    is_late: bool = False


SCHEMA_KEYWORDS = ("minItems", "maxItems", "additionalProperties", "enum", "strict")
"""Of our schemas, that some servers' grammars do not know; the parser checks what they say."""

_PARAMETERS = ("max_completion_tokens", "max_tokens", "temperature", "seed")

_UNAVAILABLE = (502, 503, 504, 520, 521, 522, 523, 524, 529, 530)
"""Of gateways and of servers that are overloaded, loading or in maintenance."""

_NO_SUCH_PLACE = (404, 405, 410)
"""Of what is at another path, or is not any more."""

_PROMPTS = (400, 413, 422, 451)
"""What may lie in the prompt; the others below 500 never do."""

_MIN_LIMIT = 64
"""Tokens; below it no reply has room, so that the limit is not halved any more."""

_FILTERED = re.compile(
    r"content[ _-]?(filter|policy|management|moderation)|moderation|flagged|safety (system|polic)"
    r"|inappropriate content|content exists risk|responsible ?ai"
    r"|sensitive (content|information|words)|new_sensitive|\u654f\u611f",
    re.IGNORECASE,
)
_SPENT = re.compile(
    r"insufficient[ _](quota|balance|credit|funds)|(credit|account) balance|out of credits"
    r"|billing[ _](hard[ _])?limit|payment[ _]required|spending limit|arrear"
    r"|exceeded your .{0,20}quota|quota .{0,20}(exceeded|exhausted|used up)"
    r"|billing[ _]not[ _]active|account is not active",
    re.IGNORECASE,
)
_BARRED = re.compile(
    r"api[ _-]?key\b.{0,30}\b(not valid|invalid|incorrect|expired|missing|revoked|disabled)"
    r"|(invalid|incorrect|expired|missing|no) api[ _-]?key"
    r"|(country|region|location|territory)\b.{0,40}\bnot (supported|available|allowed)",
    re.IGNORECASE,
)
_PERIOD = re.compile(r"\b(per[ _-](day|week|month)|daily|weekly|monthly)\b", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"model\b.{0,80}\b(not found|not exist|not available|unavailable for|no access)"
    r"|(unknown|no such|invalid|unsupported) model\b|model_not_found|not a valid model"
    r"|model\b.{0,80}\b(deprecated|decommissioned|retired|discontinued)",
    re.IGNORECASE,
)
_LOADING = re.compile(
    r"(model|server) is .{0,20}(loading|starting|overloaded|not ready)|loading model|overloaded"
    r"|currently loading|(no|at) .{0,10}capacity|capacity exceeded"
    r"|(temporarily|currently|service) unavailable",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|max_model_len|request too large"
    r"|max_(completion_)?tokens.{0,80}(too large|exceed|range|at most|greater|(less|larger) than)"
    r"|(range|too large|exceed|maximum value).{0,60}max_(completion_)?tokens",
    re.IGNORECASE,
)
_NO_SYSTEM = re.compile(
    r"(system|developer)\W{0,3} ?(role|message|prompt|instruction|turn)s?\W.{0,40}\b(not|no|un\w+|"
    r"n't)\b|(not|un|n't)\w*\b.{0,40}\b(system|developer)\W{0,3} ?(role|message|prompt|instruction)"
    r"|roles must alternate|messages\W{1,6}0\W{1,6}role|only user and assistant",
    re.IGNORECASE,
)
_BLIND = re.compile(
    r"image_url\W.{0,20}only supported|unknown variant\W{1,4}image_url"
    r"|(not|n't|endpoints found that) support\w*\W{1,3}(any |the )?"
    r"(images?|vision|multi-?modal(ity)?|visual|pictures?)\b"
    r"(?! ?(/|\w{0,9}types?|formats?|mime|sizes?))"
    r"|\b(image|vision|visual|multi-?modal)( inputs?| content)? (is|are) "
    r"(not (supported|enabled|available)|unsupported|disabled)"
    r"|not an? (multi-?modal|vision)\w*|at most \d+ image|data required for image input"
    r"|text[ -]only model",
    re.IGNORECASE,
)
_STREAMS = re.compile(
    r"\bstream(ing)?\W.{0,40}(only|must|required|to true)|(only|must|requires?)\b.{0,40}\bstream",
    re.IGNORECASE,
)
_FORMAT = re.compile(
    r"response[ _]?format|json[ _]?(schema|object|mode)|structured (output|generation)"
    r"|grammar error|(pars|compil)\w*.{0,20}\bgrammar\b|guided[ _](json|decoding)",
    re.IGNORECASE,
)
_FORMS = r"unsupported|unknown|unrecogni[sz]ed|unexpected|invalid|extra|not (support|permit|allow)"


def verdict(
    fault: Fault, sent: Mapping[str, Any], config: LanguageModelConfig
) -> Change | Later | ReplyFailure:
    """What a fault means for the request that met it.

    Args:
        fault: of the server's answer.
        sent: the request's body, as this request had it: another may have changed meanwhile.
        config: of the server; its `server.base_url` may come from the environment.

    Raises:
        RunError: no prompt can be answered: the key, the account or the model is refused, the model
            is shown pictures and sees none, or the server asks for a longer pause than a run
            should sleep.
    """
    where, words, status = address(config), fault.words, fault.status
    if status not in (401, 402, 429) and _says(_FILTERED, fault):
        return ReplyFailure(f"Refused by the content filter: {words}.", "content_filter")
    if status == 401:
        raise RunError(
            f"language model: {where} refuses the key ({words}). Set OPENAI_API_KEY to a valid one"
        )
    if fault.wait is not None and fault.wait > LONGEST_WAIT_S:
        raise RunError(
            f"language model: {where} asks to wait {fault.wait:.0f} s, longer than a run sleeps "
            f"({words})"
        )
    if _is_spent(fault):
        raise RunError(
            f"language model: {where}: the account's quota or credit is spent ({words}). Raise it, "
            "or wait until it is renewed"
        )
    _check_sight(fault, sent, config)
    if status == 429:
        detail = f"it answers 429, too many requests ({words})"
        return Later(detail, fault.wait, blames_server=True)
    if name := _refused(fault, sent):
        return Change(name)
    if status in _NO_SUCH_PLACE or (status < 500 and _says(_NO_MODEL, fault)):
        raise RunError(
            f"language model: {where} has no model {config.model.name} or is no "
            f"OpenAI-compatible /v1 URL ({words}). Correct language_model in the recipe"
        )
    if status in _UNAVAILABLE or (status >= 400 and _says(_LOADING, fault)):
        return Later(f"it answers {status} ({words})", fault.wait, blames_server=True)
    if status < 400:
        return Later(words)
    if status >= 500 or status in (408, 409, 425, 499):
        return Later(f"the server answered {status} each time ({words})", fault.wait)
    if status not in _PROMPTS or _says(_BARRED, fault):
        raise RunError(
            f"language model: {where} refuses the request ({words}). Check OPENAI_API_KEY and "
            "what it may be used for"
        )
    return ReplyFailure(f"The server refused the prompt: {words}.")


def address(config: LanguageModelConfig) -> str:
    """The server's name in messages."""
    return config.server.base_url or "api.openai.com"


def _is_spent(fault: Fault) -> bool:
    if fault.status == 429 and not _SPENT.search(fault.code):
        # A limit of a minute is called a quota, too; then it says when to come again.
        return fault.wait is None and (_says(_SPENT, fault) or _says(_PERIOD, fault))
    return fault.status == 402 or _says(_SPENT, fault)


def _says(pattern: re.Pattern[str], fault: Fault) -> bool:
    return bool(pattern.search(f"{fault.code} {fault.words}"))


def _refused(fault: Fault, sent: Mapping[str, Any]) -> str | None:
    """What of the request the server says it does not take; None: it is the prompt."""
    limit = sent.get("max_tokens") or sent.get("max_completion_tokens")
    if _says(_TOO_LONG, fault):
        return "limit" if limit is not None and limit >= 2 * _MIN_LIMIT else None
    for keyword in SCHEMA_KEYWORDS:
        if re.search(rf"\b{keyword}\b", fault.words) and keyword in _keywords(sent):
            return keyword
    for name in _PARAMETERS:
        if name in sent and (fault.param == name or names_parameter(name, fault.text)):
            return name
    if "response_format" in sent and (fault.param == "response_format" or _says(_FORMAT, fault)):
        return "response_format"
    turns = sent.get("messages") or [{}]
    if turns[0].get("role") == "system" and _NO_SYSTEM.search(fault.text):
        return "system"
    if "stream" not in sent and (fault.param == "stream" or _says(_STREAMS, fault)):
        return "stream"
    return None


def _check_sight(fault: Fault, sent: Mapping[str, Any], config: LanguageModelConfig) -> None:
    """Stop where the model is shown pictures and takes none, or not so many."""
    if _has_pictures(sent) and _says(_BLIND, fault):
        raise RunError(
            f"language model: {address(config)}: {config.model.name} does not take a request's "
            f"pictures ({fault.words}). Take a model that sees, or raise the server's limit of them"
        )


def _has_pictures(sent: Mapping[str, Any]) -> bool:
    contents = (turn.get("content") for turn in sent.get("messages") or ())
    listed = (part for content in contents if isinstance(content, list) for part in content)
    return any(part.get("type") == "image_url" for part in listed)


def names_parameter(name: str, text: str) -> bool:
    """Whether a server's words mean a parameter, and not a word of a prompt that it repeats."""
    return bool(
        re.search(rf"""(?:['"`]|: ){name}(?:['"`]|\b)""", text)
        or re.search(rf"(?i)({_FORMS})\w*\W+(\w+\W+){{0,4}}{name}\b", text)
        or re.search(rf"(?i)\b{name}\b\W+(\w+\W+){{0,3}}({_FORMS})", text)
    )


def _keywords(sent: Mapping[str, Any]) -> set[str]:
    """Every key of the JSON schema that was sent."""
    nodes: list[Any] = [sent.get("response_format")]
    keywords: set[str] = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            keywords.update(node)
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
    return keywords
