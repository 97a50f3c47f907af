"""The error with which a request is answered, in the one form that llama.cpp and OpenAI share."""

from typing import Any

# The words that llama.cpp and OpenAI use for these states; both put them into the same body.
KINDS = {
    403: "permission_error",
    404: "not_found_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


class Refused(Exception):
    """A request that gets an error as its answer.

    Args:
        status: HTTP status.
        message: what is wrong, and what would be right.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def body(self) -> dict[str, Any]:
        """The body of the answer, which is the same in both protocols."""
        kind = KINDS.get(self.status, "invalid_request_error")
        return {"error": {"code": self.status, "message": str(self), "type": kind}}
