"""A language model that sees, as judge: pictures and a rubric in; scores with reasons, or why not.

Knows no benchmark: what is asked comes as a `JudgeCall`, and leaves as a `Judgement`. A question
that got no valid reply has a counted failure in place of scores, never a guessed one. What all
questions meet alike (a server that fails, a key, a model that does not see) stops the run.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image

from reasonray.core.errors import UserError
from reasonray.core.evaluation_sections import JudgeConfig
from reasonray.core.record import sample_seed
from reasonray.core.sections import LanguageModelConfig
from reasonray.evaluation.items import JudgeCall
from reasonray.models.chat_pictures import shown
from reasonray.models.language_model import Dialogue, load_language_model
from reasonray.prompts.replies import Verdict, parse_verdict, verdict_form, verdict_schema
from reasonray.prompts.template import load, one_line
from reasonray.stages.alike import Failure, FailuresAlike
from reasonray.stages.exchange import NoReply, Question, exchange

AXES = {"following": (1, 5), "preservation": (1, 5), "plausibility": (1, 5)}
"""What is scored where no benchmark has axes of its own: the instruction, and what it leads to,
followed; what should stay stayed; the picture holds together."""


@dataclass(frozen=True)
class Asked:
    """A question about one edited picture.

    Attributes:
        id: of the item. With the call's name and the repeat it makes the seed: the same for every
            editor, wherever and in whatever order it is asked.
        call: the question.
    """

    id: str
    call: JudgeCall


@dataclass(frozen=True)
class Judgement:
    """What came of one question.

    Attributes:
        outcomes: of each repeat a verdict, or why there is none.
    """

    outcomes: tuple[Verdict | NoReply, ...]

    @property
    def verdicts(self) -> list[Verdict]:
        """Of the repeats that have one."""
        return [each for each in self.outcomes if isinstance(each, Verdict)]

    @property
    def failures(self) -> list[NoReply]:
        """Of the other repeats."""
        return [each for each in self.outcomes if isinstance(each, NoReply)]

    @property
    def axes(self) -> dict[str, float]:
        """Each axis' mean over the repeats that have a verdict; empty where none has."""
        return {axis: statistics.fmean(scores) for axis, scores in self._scores().items()}

    @property
    def spread(self) -> dict[str, float]:
        """Each axis' standard deviation over those repeats (n - 1); empty below two."""
        return {
            axis: statistics.stdev(scores)
            for axis, scores in self._scores().items()
            if len(scores) > 1
        }

    def _scores(self) -> dict[str, list[int]]:
        verdicts = self.verdicts
        axes = verdicts[0].scores if verdicts else ()
        return {axis: [verdict.scores[axis] for verdict in verdicts] for axis in axes}


class Judge:
    """Asks a language model, each question `num_repeats` times.

    Attributes:
        notices: sentences for a person on how the model is asked; grows while it is. What a server
            does not take of the protocol, such as a temperature, stands here.
        advance: called with 1 for each reply or failure; from any thread.
        spent: called with the tokens read, pictures' among them, and written; likewise.

    Args:
        config: with a language model.
        seed: of the run.

    Raises:
        UserError: no language model is named, or it is not there.
    """

    advance: Callable[[int], None] = staticmethod(lambda num_questions: None)
    spent: Callable[[int, int], None] = staticmethod(lambda num_read, num_written: None)

    def __init__(self, config: JudgeConfig, *, seed: int) -> None:
        self.config, self.seed = config, seed
        self.language_model = load_language_model(_model(config))
        self.notices: Sequence[str] = self.language_model.notices
        self._alike = FailuresAlike(
            "judge: the questions about",
            "Look at the server and at evaluation.judge.language_model",
            few=3,
        )

    def __call__(self, asked: Sequence[Asked]) -> list[Judgement]:
        """One judgement for each question, in order.

        Raises:
            RunError: from the backend, or where its failures are no question's own.
            UserError: the model sees no pictures.
        """
        repeats = range(self.config.num_repeats)
        outcomes: dict[tuple[int, int], Verdict | NoReply] = {}
        dialogues = [
            self._ask(each, question, outcomes, (index, repeat))
            for index, each in enumerate(asked)
            for question in [self._question(each.call)]
            for repeat in repeats
        ]
        with self._alike.begun(len(dialogues)):
            self.language_model.converse(dialogues)
        self._settle(list(outcomes.values()))
        return [
            Judgement(tuple(outcomes[index, repeat] for repeat in repeats))
            for index in range(len(asked))
        ]

    def _question(self, call: JudgeCall) -> Question[Verdict]:
        return Question(
            messages(call, self.config.max_side),
            verdict_schema(call.axes),
            lambda text: parse_verdict(text, axes=call.axes),
        )

    def _ask(
        self,
        asked: Asked,
        question: Question[Verdict],
        outcomes: dict[tuple[int, int], Verdict | NoReply],
        place: tuple[int, int],
    ) -> Dialogue:
        """Ask once; into the outcome's place, as questions end in any order."""
        stage = f"judge/{asked.call.name}/{place[1]}"
        outcomes[place] = yield from exchange(
            question,
            self.config,
            key="evaluation.judge",
            seed=lambda attempt: sample_seed(self.seed, asked.id, stage, attempt),
            spent=self.spent,
        )
        self.advance(1)

    def _settle(self, outcomes: Sequence[Verdict | NoReply]) -> None:
        """Stop where the backend alone is to blame; a bad reply is a question's own failure.

        A model that refuses, rambles or is cut off has been reached: that is what is counted.
        """
        failures = [
            Failure(outcome.manner, outcome.detail)
            for outcome in outcomes
            if isinstance(outcome, NoReply) and outcome.reason == "lm_failed"
        ]
        self._alike.settle(len(outcomes), len(outcomes) - len(failures), failures)


def messages(call: JudgeCall, max_side: int) -> list[dict[str, Any]]:
    """The chat that asks: the prompt, the pictures, and the form of the reply, in one turn.

    Args:
        call: what is asked.
        max_side: pixels of a picture's longer side, at most.
    """
    [form] = load("verdict").messages(form=verdict_form(call.axes))
    pictures = [shown(picture, max_side) for picture in call.pictures]
    content = [
        {"type": "text", "text": call.prompt},
        *({"type": "image", "image": picture} for picture in pictures),
        {"type": "text", "text": form["content"]},
    ]
    return [{"role": "user", "content": content}]


def protocol(config: JudgeConfig, seed: int) -> dict[str, Any]:
    """What a judge's figure is stamped with: another value gives other figures.

    Args:
        config: with a language model, which need not be loaded: the revision is that which is set.
        seed: of the run.
    """
    model = _model(config)
    return {
        "model": model.model.name,
        "revision": model.model.revision,
        "backend": model.backend,
        "prompts": [load(name).provenance for name in ("verdict", "again")],
        "seed": seed,
        **config.model_dump(exclude={"language_model"}),
    }


def _model(config: JudgeConfig) -> LanguageModelConfig:
    if config.language_model is None:
        raise UserError(
            "evaluation.judge.language_model: names no model; give one that sees, e.g. "
            "--set evaluation.judge.language_model.model.name=gpt-4.1-2025-04-14"
        )
    return config.language_model


def edit_call(
    before: PIL.Image.Image,
    edited: PIL.Image.Image,
    instruction: str,
    expected: str = "",
) -> JudgeCall:
    """The question about an edit where no benchmark has one of its own: `AXES`, in one reply.

    Args:
        before, edited: RGB, any size.
        instruction: as the editor was given it.
        expected: what should be seen afterwards, such as the truth's caption; "": the judge has to
            work it out.
    """
    line = f"What should be seen afterwards: {one_line(expected)}" if expected.strip() else ""
    [message] = load("judge").messages(instruction=one_line(instruction), expected=line)
    return JudgeCall(message["content"].rstrip(), (before, edited), AXES, "edit")
