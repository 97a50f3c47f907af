"""The error for problems that the user can solve: one line with the cause, one with the remedy."""


class UserError(ValueError):
    """Bad input, or a machine that lacks something; `hint` says what to set or to run."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
