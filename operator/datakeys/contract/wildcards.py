"""Patterns with ``*`` (any text) and ``?`` (one character), as policies have them.

Zone: pure. Both the pattern and the text may be hostile, and other callers wait meanwhile: so there are no
regular expressions, which would have to be compiled, and no search that begins anew at each character. The
first place where a piece between two stars fits is as good as any later one. Source: AWS IAM, "IAM JSON
policy elements: Condition operators", string matching.
"""

from collections.abc import Sequence
from typing import Final

#: Units of work that one decision may take: 4,096 comparisons with short texts, or 127 with the longest.
#: A policy of 32 KiB and an encryption context of 8 KiB could ask for millions.
MAX_WORK: Final = 1 << 20
_COMPARISON_WORK: Final = 256
#: With a ``?`` in the pattern each character costs as much as so many.
_ANY_CHARACTER_WORK: Final = 64


def count_work(patterns: Sequence[str], *lengths: int) -> int:
    """Return what it takes to compare all patterns with texts of these lengths, in units of work."""
    hard = sum("?" in pattern for pattern in patterns)
    per_character = len(patterns) - hard + hard * _ANY_CHARACTER_WORK
    return len(patterns) * len(lengths) * _COMPARISON_WORK + per_character * sum(lengths)


def matches_wildcards(pattern: str, text: str) -> bool:
    """Return whether a pattern covers the whole of a text.

    It takes as long as both are long together; with a ``?`` between two stars, longer: each character of the
    text costs an operation on a number of as many bits as the piece has characters.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return len(first) == len(text) and _fits(first, text, 0)
    *middle, last = rest
    start, end = len(first), len(text) - len(last)
    if start > end or not _fits(first, text, 0) or not _fits(last, text, end):
        return False
    for piece in middle:
        start = _find_end(piece, text, start, end)
        if start < 0:
            return False
    return True


def matches_arn(pattern: str, arn: str) -> bool:
    """Compare ARNs piece by piece: a ``*`` never reaches over a colon into the next of the six pieces."""
    patterns, pieces = pattern.split(":", 5), arn.split(":", 5)
    if len(patterns) != 6 or len(pieces) != 6:  # noqa: PLR2004 - the pieces of an ARN
        return False
    return all(map(matches_wildcards, patterns, pieces))


def _fits(piece: str, text: str, start: int) -> bool:
    """Return whether a piece without ``*`` fits at a place that leaves room for it."""
    if "?" not in piece:
        return text.startswith(piece, start)
    return all(one in ("?", other) for one, other in zip(piece, text[start:], strict=False))


def _find_end(piece: str, text: str, start: int, end: int) -> int:
    """Return the end of the first place between two others where a piece without ``*`` fits, or -1."""
    if "?" not in piece:
        found = text.find(piece, start, end)
        return found if found < 0 else found + len(piece)
    # Shift-And (Baeza-Yates and Gonnet, 1992): bit n is set while the last n + 1 characters fit.
    any_character = sum(1 << place for place, one in enumerate(piece) if one == "?")
    masks = dict.fromkeys(piece, any_character)
    for place, one in enumerate(piece):
        masks[one] |= 1 << place
    whole, fitting = 1 << (len(piece) - 1), 0
    for place in range(start, end):
        fitting = (fitting << 1 | 1) & masks.get(text[place], any_character)
        if fitting & whole:
            return place + 1
    return -1
