"""What can go wrong, by whose fault: the class decides the exit code and what happens to a row."""


class ReasonrayError(Exception):
    """Base of our errors; its text is one message that names the thing, the rule and the remedy."""


class UserError(ReasonrayError):
    """The user's mistake (a recipe key, a path, an output in use): printed in one line, exit 2."""


class RunError(ReasonrayError):
    """The run cannot go on for a reason outside any row (server gone, budget spent, disk full).

    Never turned into a rejection: it stops the run with exit 1.

    Args:
        message: what happened, and what to mend.
        again: whether the same command then goes on where the run stopped; the command line says
            so after the message, which need not.
    """

    def __init__(self, message: str, *, again: bool = True) -> None:
        super().__init__(message)
        self.again = again


class RowError(ReasonrayError):
    """One row cannot be processed: it becomes a rejection with this reason and detail.

    Args:
        reason: a short code, one of the stage's `rejects`.
        detail: one sentence for a person, naming the file or value.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
