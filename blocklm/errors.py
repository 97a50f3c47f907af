"""What the user can mend: one line that names the cause, one that names the remedy."""


class UserError(ValueError):
    """Input that cannot be worked with; `hint` says what to change."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
