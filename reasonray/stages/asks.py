"""The base of the stages that ask a language model: `rewrite`, `select` and `propose`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic

from reasonray.core.record import Row, reject, sample_seed
from reasonray.core.sections import (
    ASKING,
    LanguageModelConfig,
    ProposeConfig,
    RewriteConfig,
    SelectConfig,
)
from reasonray.models.language_model import Dialogue, load_language_model, revision
from reasonray.prompts.template import load
from reasonray.stages.alike import Failure, FailuresAlike
from reasonray.stages.exchange import NoReply, Question, Reply, exchange
from reasonray.stages.stage import Stage


class Asks(Stage, Generic[Reply]):
    """Asks until the reply is valid, a few times at most; subclasses say what, and what follows."""

    rejects: ClassVar[Mapping[str, str]] = {
        "invalid_reply": "no reply of the language model had the required form",
        "lm_failed": "the language model gave no reply to this prompt",
        "content_filter": "the server's content filter refused this prompt or its reply",
    }

    def __init__(
        self,
        config: RewriteConfig | SelectConfig | ProposeConfig,
        language_model: LanguageModelConfig,
        *,
        seed: int,
    ) -> None:
        self.config = config
        self.seed = seed
        self.language_model = load_language_model(language_model)
        self.notices = self.language_model.notices
        self.prompt = load(ASKING[self.name])
        name, commit = language_model.model.name, revision(language_model)
        self.models = [{"stage": self.name, "name": name, "revision": commit}]
        self.prompts = [self.prompt.provenance, load("again").provenance]
        self._alike = FailuresAlike(
            f"stage {self.name}: the questions about",
            "Look at the server and at language_model",
            few=3,
        )

    def question(self, row: Row) -> Question[Reply] | None:
        """What is asked about a row; None where the row is done, or rejected, without asking."""
        raise NotImplementedError

    def answered(self, row: Row, reply: Reply) -> None:
        """Write a valid reply into its row."""
        raise NotImplementedError

    def process(self, rows: list[Row]) -> None:
        """Ask about the rows, each on its own; reject those that get no valid reply.

        Raises:
            RunError: from the backend, or where all fail alike.
        """
        talk = _Talk()
        dialogues = []
        for row in rows:
            question = self.question(row)
            if question is None:
                self.advance(1)
            else:
                dialogues.append(self._ask(row, question, talk))
        with self._alike.begun(len(dialogues)):
            self.language_model.converse(dialogues)
        self._alike.settle(len(dialogues), talk.num_well, talk.failures)

    def _ask(self, row: Row, question: Question[Reply], talk: "_Talk") -> Dialogue:
        """Ask about one row until the reply is valid; write it or the rejection into the row."""
        reply = yield from exchange(
            question,
            self.config,
            key=f"stages.{self.name}",
            seed=lambda attempt: sample_seed(self.seed, row["id"], self.name, attempt),
            spent=self.spent,
        )
        if isinstance(reply, NoReply):
            is_ours = reply.reason in self.rejects
            reject(row, self.name, reply.reason if is_ours else "lm_failed", reply.detail)
            if reply.reason != "content_filter":
                talk.failures.append(Failure(reply.manner, reply.detail))
        else:
            self.answered(row, reply)
            talk.num_well += 1
        self.advance(1)


@dataclass
class _Talk:
    """What has become of a batch's questions so far."""

    num_well: int = 0
    failures: list[Failure] = field(default_factory=list)
