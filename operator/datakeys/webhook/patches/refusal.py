"""Why an object isn't admitted. Zone: no secrets; the message goes to whoever creates it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the API server is told about an object that is refused.

    Source: Kubernetes API conventions, "Response Status Kind".
    """

    message: str
    #: An HTTP status; 422 is Unprocessable Entity.
    code: int = 422
    reason: str = "Invalid"


class RefusedError(Exception):
    """A rule refuses the object; ``message`` starts with the field or annotation to change."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
