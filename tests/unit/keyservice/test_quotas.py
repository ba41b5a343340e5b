"""Rate quotas, with a clock that moves only when told."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakeys.contract.errors import ThrottlingError
from datakeys.keyservice.operations.table import VERBS
from datakeys.keyservice.server import quotas
from datakeys.keyservice.server.quotas import KINDS, RateQuotas, build_quotas
from keyservice_rig import Clock, DispatchRig

RATES = {quotas.SYMMETRIC: 10.0, quotas.ASYMMETRIC: 4.0, quotas.KEY_PAIRS: 1.0}


def count_allowed(
    kept: RateQuotas, operation: str, tries: int = 100, account: str = "team-a", caller: str = ""
) -> int:
    allowed = 0
    for _ in range(tries):
        try:
            kept.take(account, operation, caller)
        except ThrottlingError:
            continue
        allowed += 1
    return allowed


def test_a_burst_of_one_second_is_let_through_and_no_more() -> None:
    assert count_allowed(RateQuotas(RATES, Clock()), "Decrypt") == 10


def test_time_fills_the_bucket_up_to_one_second() -> None:
    clock = Clock()
    kept = RateQuotas(RATES, clock)
    count_allowed(kept, "Decrypt")
    clock.now += 0.35
    assert count_allowed(kept, "Decrypt") == 3
    clock.now += 3600
    assert count_allowed(kept, "Decrypt") == 10


def test_operations_of_a_kind_share_a_quota_and_kinds_do_not() -> None:
    kept = RateQuotas(RATES, Clock())
    assert count_allowed(kept, "Decrypt", 6) == 6
    assert count_allowed(kept, "GenerateDataKeyWithoutPlaintext") == 4
    assert count_allowed(kept, "Sign") == 4
    assert count_allowed(kept, "GenerateDataKeyPair") == 1


def test_one_account_never_takes_the_share_of_another() -> None:
    kept = RateQuotas(RATES, Clock())
    count_allowed(kept, "Decrypt", account="team-a")
    assert count_allowed(kept, "Decrypt", account="team-b") == 10


def test_one_caller_takes_half_of_its_account_and_leaves_the_rest_to_its_neighbours() -> None:
    """What is refused to it isn't counted against the others either."""
    kept = RateQuotas(RATES, Clock())
    assert count_allowed(kept, "Decrypt", caller="pod-1") == 5
    assert count_allowed(kept, "Decrypt", 3, caller="pod-2") == 3
    assert count_allowed(kept, "Decrypt") == 2
    assert count_allowed(kept, "Decrypt", account="team-b", caller="pod-3") == 5


def test_small_quota_is_not_halved_to_nothing() -> None:
    clock = Clock()
    kept = RateQuotas(RATES, clock)
    for _ in range(3):
        assert count_allowed(kept, "GenerateDataKeyPair", caller="pod-1") == 1
        clock.now += 1


def test_management_calls_have_no_quota() -> None:
    assert count_allowed(RateQuotas(RATES, Clock()), "CreateKey", 1000) == 1000


def test_a_refusal_says_which_quota_is_used_up() -> None:
    kept = RateQuotas(RATES, Clock())
    kept.take("team-a", "GenerateDataKeyPair")
    with pytest.raises(ThrottlingError, match="data key pairs"):
        kept.take("team-a", "GenerateDataKeyPairWithoutPlaintext")


def test_memory_is_bounded_whatever_the_number_of_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "MAX_BUCKETS", 50)
    kept = RateQuotas(RATES, Clock())
    for number in range(200):
        kept.take(f"team-{number}", "Decrypt")
        kept.take(f"team-{number}", "Decrypt", f"pod-{number}")
    assert (len(kept._accounts), len(kept._callers)) == (50, 50)


@given(st.lists(st.floats(0, 2), max_size=60))
def test_no_second_has_more_calls_than_burst_and_rate_allow(steps: list[float]) -> None:
    clock = Clock(0.0)
    kept = RateQuotas(RATES, clock)
    allowed = 0
    for step in steps:
        clock.now += step
        allowed += count_allowed(kept, "Decrypt", 20)
        assert allowed <= 10 + clock.now * 10 + 1e-6


def test_every_operation_with_a_quota_exists() -> None:
    assert set(KINDS) <= set(VERBS)


def test_factor_scales_the_usual_quotas_and_zero_switches_them_off() -> None:
    assert build_quotas(0, Clock()) is None
    kept = build_quotas(0.1, Clock())
    assert kept is not None
    assert count_allowed(kept, "Decrypt", 2000) == 1000


async def test_caller_over_its_quota_gets_a_throttling_exception(dispatch_rig: DispatchRig) -> None:
    dispatch_rig.rig.clock.now = time.time()
    dispatch_rig.dispatcher._quotas = RateQuotas(RATES, Clock())
    token = dispatch_rig.issuer.token("datakey-system", "datakeys-controller")
    statuses = []
    for _ in range(11):
        _, body, answer = await dispatch_rig.send("Decrypt", {}, token, x_datakeys_account="team-a")
        statuses.append(body["__type"])
        assert ((b"retry-after", b"1") in answer.headers) is (body["__type"] == "ThrottlingException")
    assert statuses == ["ValidationException"] * 10 + ["ThrottlingException"]


async def test_pod_in_a_loop_leaves_its_neighbours_and_the_controller_their_part(
    dispatch_rig: DispatchRig,
) -> None:
    """Two pods of one namespace are told apart by their UIDs; the controller isn't bound to a part."""
    dispatch_rig.rig.clock.now = time.time()
    dispatch_rig.dispatcher._quotas = RateQuotas(RATES, Clock())
    issuer, answers = dispatch_rig.issuer, {}
    for name, count in (("greedy", 20), ("other", 3)):
        token = issuer.token("team-a", name, in_pod=True)
        answers[name] = [(await dispatch_rig.send("Decrypt", {}, token))[1]["__type"] for _ in range(count)]
    assert answers["greedy"] == ["ValidationException"] * 5 + ["ThrottlingException"] * 15
    assert answers["other"] == ["ValidationException"] * 3
    token = issuer.token("datakey-system", "datakeys-controller")
    last = [
        (await dispatch_rig.send("Decrypt", {}, token, x_datakeys_account="team-a"))[1]["__type"]
        for _ in range(3)
    ]
    assert last == ["ValidationException"] * 2 + ["ThrottlingException"]
