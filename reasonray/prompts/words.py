"""Whether a text names a thing: inflections, compounds and common synonyms of English nouns.

Rule-based and small on purpose: a false alarm costs one more request to the language model, a
miss costs a sample that says directly what it should only suggest.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path


def word_lists(path: Path) -> dict[str, list[str]]:
    """The lines of each `[section]` of a file of words; a line that begins with # is a comment."""
    sections: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            lines = sections[line.strip("[]")] = []
        elif line and not line.startswith("#"):
            lines.append(line)
    return sections


_LISTS = word_lists(Path(__file__).with_suffix(".txt"))
IRREGULAR_PLURALS = dict(line.split() for line in _LISTS["irregular plurals"])
"""Irregular plural -> its singular."""

_IRREGULAR_VERBS = {
    form: base for base, *forms in map(str.split, _LISTS["irregular verbs"]) for form in forms
}


def _section(name: str) -> frozenset[str]:
    return frozenset(" ".join(_LISTS[name]).split())


_COMPOUND_PARTS = _section("compound parts")
FUNCTION_WORDS = _section("function words")
"""Articles, pronouns, prepositions, auxiliaries, numerals, particles of names."""
_EDITING = _section("editing words")
_WEAK = _section("weak words")
_DEFINITE = _section("definite words")
_BRINGING = _section("bringing words")


def words(text: str) -> list[str]:
    """The words of a text, lower case, without punctuation and possessive endings."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    plain = re.sub(r"'s\b|'", "", plain)
    return re.findall(r"[^\W_]+", plain)


def same(a: str, b: str) -> bool:
    """Whether two words are forms of one word ("mice", "mouse"; "milk", "milking")."""
    return bool(_bases(a) & _bases(b))


def mentions(text: str, phrase: str) -> bool:
    """Whether a text holds all words of a phrase in a row, in any form and joining."""
    tokens = words(phrase)
    return bool(tokens) and _find(words(text), tokens) is not None


def naming(text: str, names: Iterable[str]) -> str | None:
    """The word(s) of `text` that name one of `names`, or None.

    A name is given away by the phrase in any form and joining ("fire truck", "fire-trucks",
    "firetruck"), by a synonym, by its head noun alone ("truck", for it says what kind of thing it
    is) and by a compound of its head ("truckload"). Its modifiers alone ("fire") are allowed: they
    are what a hint is made of.
    """
    tokens = words(text)
    for name in names:
        for phrase in _phrases(name):
            stretch = _find(tokens, phrase)
            if stretch is not None:
                return stretch
            for token in tokens:
                if any(same(token, head) or _compounds(token, head) for head in _heads(phrase)):
                    return token
    return None


def introduced(before: str, after: str, instruction: str = "") -> list[str]:
    """The words that tell what an edit brings in, each once.

    The content words of the edited caption that the input's lacks, and the nouns that the direct
    instruction brings in ("make it winter"; not "turn off the sun", which is there already). Words
    that hardly tell anything ("wearing", "sky") are among them only where there is no other, and
    what the instruction does ("shave off his beard") where nothing comes in at all.

    Args:
        before: the input's caption.
        after: the edited picture's.
        instruction: the direct one.
    """
    spoken = words(instruction)
    telling = _new_content([*words(after), *_brought_in(spoken)], words(before))
    strong = [word for word in telling if word not in _WEAK]
    return strong or telling or _new_content(spoken, words(before))


def _new_content(candidates: Sequence[str], known: Sequence[str]) -> list[str]:
    """The content words that are no form of a known one, each once."""
    new: list[str] = []
    for word in candidates:
        if word in FUNCTION_WORDS or word in _EDITING:
            continue
        if not any(same(word, other) for other in [*known, *new]):
            new.append(word)
    return new


def _brought_in(instruction: Sequence[str]) -> list[str]:
    """The words of a direct instruction whose determiner says that they are new.

    "add a red hat" gives red and hat; "build a castle on the hill" gives castle.
    """
    new: list[str] = []
    brings = False
    for index, word in enumerate(instruction):
        if word in _DEFINITE:
            brings = False
        elif word in _BRINGING:
            brings = True
        elif word in FUNCTION_WORDS or (index == 0 and word not in _EDITING):
            brings = False
        elif word in _EDITING:
            # "add thunder", but not "make it look …", where the verb follows its object.
            brings = index == 0
        elif brings:
            new.append(word)
    return new


def equivalent(a: str, b: str) -> bool:
    """Whether two names mean the same thing, or one is a kind of the other ("fire truck")."""
    for one in _phrases(a):
        for two in _phrases(b):
            if "".join(one) == "".join(two):
                return True
            short, long = sorted((one, two), key=len)
            if all(map(same, long[-len(short) :], short)):
                return True
    return False


def same_head(a: str, b: str) -> bool:
    """Whether two names say the same kind of thing: "desk lamp" and "floor lamp"."""
    heads = [_heads(tuple(words(name))) if words(name) else set() for name in (a, b)]
    return any(same(one, two) for one in heads[0] for two in heads[1])


def _find(tokens: Sequence[str], phrase: Sequence[str]) -> str | None:
    """The stretch of tokens that spells the phrase, over any word boundaries."""
    joined = "".join(phrase)
    for start in range(len(tokens)):
        exact = tokens[start : start + len(phrase)]
        if len(exact) == len(phrase) and all(map(same, exact, phrase)):
            return " ".join(exact)
        for end in range(start + 1, min(len(tokens), start + len(phrase) + 2) + 1):
            if same("".join(tokens[start:end]), joined):
                return " ".join(tokens[start:end])
    return None


def _compounds(token: str, head: str) -> bool:
    """Whether the token is a closed compound with the head in it: "firetruck", "beehive"."""
    for base in _bases(token):
        if base.startswith(head) and base[len(head) :] in _COMPOUND_PARTS:
            return True
        if base.endswith(head) and base[: -len(head)] in _COMPOUND_PARTS:
            return True
    return False


def _heads(phrase: Sequence[str]) -> set[str]:
    """The nouns that say what kind of thing it is, and their synonyms.

    The last word, on both sides of "of".
    """
    heads = {phrase[-1]}
    if "of" in phrase[1:-1]:
        heads.add(phrase[phrase.index("of", 1) - 1])
    return heads.union(*(_synonyms().get(base, ()) for head in heads for base in _bases(head)))


def _phrases(name: str) -> list[tuple[str, ...]]:
    """The name and its synonyms, as words."""
    phrase = tuple(words(name))
    if not phrase:
        return []
    single = "".join(phrase)
    others = {other for base in _bases(single) for other in _synonyms().get(base, ())}
    return [phrase, *((other,) for other in sorted(others) if other != single)]


@functools.cache
def _synonyms() -> dict[str, frozenset[str]]:
    synonyms: dict[str, frozenset[str]] = {}
    for line in (Path(__file__).parent / "synonyms.txt").read_text().splitlines():
        group = frozenset(line.split())
        for word in group:
            synonyms[word] = synonyms.get(word, frozenset()) | group
    return synonyms


@functools.lru_cache(maxsize=100_000)
def _bases(word: str) -> frozenset[str]:
    """The word and what it may be a form of; not all of them words."""
    bases = {word, IRREGULAR_PLURALS.get(word, word), _IRREGULAR_VERBS.get(word, word)}
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        bases.add(word[:-1])
        if word.endswith("es"):
            bases.add(word[:-2])
        if word.endswith("ies"):
            bases.add(word[:-3] + "y")
        if word.endswith("ves"):
            bases |= {word[:-3] + "f", word[:-3] + "fe"}
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            bases |= _stems(word[: -len(ending)])
    return frozenset(bases | _underived(word))


def _stems(stem: str) -> set[str]:
    """What a verb may be that has lost its ending."""
    stems = {stem + "e"}
    # "caring" is no form of "car": a short stem doubles its consonant.
    if len(stem) > 3 or not re.fullmatch(r"[^aeiou][aeiou][^aeiouwxy]", stem):
        stems.add(stem)
    if stem[-1] == stem[-2]:
        stems.add(stem[:-1])
    return stems


def _underived(word: str) -> set[str]:
    """What "nightly", "violinist", "icy" and "snowy" are made of."""
    if word.endswith("ist") and len(word) > 6:
        return {word[:-3]}
    if not word.endswith("y"):
        return set()
    bases = {word[:-1] + "e"}
    if len(word) > 4:
        bases.add(word[:-1])
    if word.endswith("ly") and len(word) > 5:
        bases.add(word[:-2])
    return bases
