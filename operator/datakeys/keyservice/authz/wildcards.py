"""Patterns with ``*`` (any text) and ``?`` (one character), as policies have them.

Zone: pure. Matching never backtracks over an earlier ``*``: the first place where the next piece fits is as
good as any later one, so no pattern can make a request hang. Source: AWS IAM, "IAM JSON policy elements:
Condition operators", string matching.
"""

import re
from functools import lru_cache

Pattern = re.Pattern[str]


@lru_cache(maxsize=4096)
def compile_wildcards(text: str, *, ignore_case: bool = False) -> Pattern:
    """Return a pattern for ``fullmatch``."""
    first, *rest = [
        "".join("." if character == "?" else re.escape(character) for character in piece)
        for piece in text.split("*")
    ]
    if rest:
        *middle, last = rest
        first += "".join(f"(?>.*?{piece})" for piece in middle if piece) + f".*{last}"
    return re.compile(first, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def matches_arn(pattern: str, arn: str) -> bool:
    """Compare ARNs piece by piece: a ``*`` never reaches over a colon into the next of the six pieces."""
    patterns, pieces = pattern.split(":", 5), arn.split(":", 5)
    if len(patterns) != 6 or len(pieces) != 6:  # noqa: PLR2004 - the pieces of an ARN
        return False
    return all(compile_wildcards(one).fullmatch(other) for one, other in zip(patterns, pieces, strict=True))
