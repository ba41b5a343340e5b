"""Canonical bytes stand for exactly one context."""

from hypothesis import given
from hypothesis import strategies as st

from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.encryption_context import canonical_bytes

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
contexts = st.dictionaries(text, text, max_size=4)


@given(contexts, contexts)
def test_equal_bytes_mean_equal_contexts(one: dict[str, str], other: dict[str, str]) -> None:
    """Two contexts have the same bytes exactly if they are the same."""
    assert (canonical_bytes(one) == canonical_bytes(other)) == (one == other)


@given(contexts, st.randoms())
def test_order_has_no_meaning(context: dict[str, str], random: object) -> None:
    """Any order of the pairs gives the same bytes."""
    pairs = list(context.items())
    random.shuffle(pairs)  # type: ignore[attr-defined]
    assert canonical_bytes(dict(pairs)) == canonical_bytes(context)


@given(st.binary(min_size=1, max_size=64), text, text, contexts)
def test_secret_data_round_trip(blob: bytes, arn: str, material: str, context: dict[str, str]) -> None:
    """Any encrypted data key survives the way through a Secret."""
    key = EncryptedDataKey(blob, arn, material, context)
    assert EncryptedDataKey.from_secret_data(key.to_secret_data()) == key
