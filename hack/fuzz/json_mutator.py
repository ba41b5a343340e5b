"""Changes a JSON document as such: bytes changed at random seldom are JSON any more.

Zone: tools. Pure: what is random comes from the seed.
"""

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 1.5, 2**31, 2**63, 10**400, float("inf"), float("nan")),
    *("", "a", "\0", "é", "\U0001f600", "a" * 300, "-1", "null", "/", "..", "*", " ", "=="),
    *([], {}, [[]], [None], {"": ""}, {"a": []}),
)
_BYTES_SHARE: Final = 0.15
_MAX_CHANGES: Final = 3
_DEEP: Final = 500

#: A document's place: its parent and its key or index there.
_Place = tuple[Any, Any]


def mutate(
    data: bytes, max_bytes: int, seed: int, words: Sequence[str], mutate_bytes: Callable[[bytes, int], bytes]
) -> bytes:
    """Return another input: a first line, and a JSON document behind it.

    Args:
        data: The input.
        max_bytes: Of the result.
        seed: The same gives the same.
        words: For strings and names of members.
        mutate_bytes: The fuzzer's own way, which is taken too.
    """
    source = random.Random(seed)  # noqa: S311 - repeatable on purpose
    head, newline, body = data.partition(b"\n")
    if source.random() < _BYTES_SHARE or not newline:
        return mutate_bytes(data, max_bytes)
    try:
        document = [json.loads(body)]
        for _ in range(source.randint(1, _MAX_CHANGES)):
            _change(document, source, words, mutate_bytes)
        changed = json.dumps(document[0], ensure_ascii=source.random() < 0.5)  # noqa: PLR2004 - a coin
        raw = head + newline + changed.encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return mutate_bytes(data, max_bytes)
    return raw if len(raw) <= max_bytes else mutate_bytes(data, max_bytes)


def _change(
    document: list[Any],
    source: random.Random,
    words: Sequence[str],
    mutate_bytes: Callable[[bytes, int], bytes],
) -> None:
    parent, key = source.choice(list(_places(document)))
    value = parent[key]
    match source.randrange(8):
        case 0:
            parent[key] = _pick(source)
        case 1:
            other, where = source.choice(list(_places(document)))
            parent[key] = json.loads(json.dumps(other[where]))
        case 2 if parent is not document:
            del parent[key]
        case 3 if isinstance(parent, list) and parent is not document:
            parent.insert(key, copy.deepcopy(value))
        case 4 if isinstance(value, dict):
            value[source.choice(words) if words else "a"] = _pick(source, words)
        case 5 if words:
            parent[key] = source.choice(words)
        case 6 if source.random() < 0.05:  # noqa: PLR2004 - seldom: it is the same every time
            parent[key] = json.loads("[" * _DEEP + "]" * _DEEP)
        case _ if isinstance(value, str):
            raw = value.encode("utf-8", "surrogatepass")
            parent[key] = mutate_bytes(raw, len(raw) + 64).decode("utf-8", "replace")
        case _ if isinstance(value, int):
            parent[key] = value + source.choice([-1, 1, 1000, -(2**31)])
        case _:
            parent[key] = _pick(source)


def _pick(source: random.Random, words: Sequence[str] = ()) -> Any:  # noqa: ANN401 - JSON
    """Return a value of its own: one object in two places could come to hold itself."""
    return copy.deepcopy(source.choice([*_VALUES, *words]))


def _places(parent: Any) -> Iterator[_Place]:  # noqa: ANN401 - JSON
    # Not by recursion: a document may be deep.
    waiting = [parent]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one))
        for key in keys:
            yield one, key
            if isinstance(one[key], (dict, list)):
                waiting.append(one[key])
