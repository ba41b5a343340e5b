"""Controllers that are killed before and after every single call that a request costs.

Real processes of the controller and the key service, a real API server. The calls are found by runs in which
nobody dies, so a new call is covered without anybody's help. What was ever visible is read from the API
server's history, each ciphertext is opened with a pod's token, and what was generated is in the key service's
audit record: a data key may be generated again only if the first one was never visible in any object, which
is so at two points alone, after the answer of GenerateDataKeyWithoutPlaintext and before the Secret's create.
"""

import json
from collections.abc import Iterator

import pytest
from kubernetes import client

from controller_rig import Rig
from crash_lives import CREATE_SECRET, LIVES
from crash_points import CLUSTER, Moment, Point, plan_deaths
from crash_runs import SHOP, SYSTEM, Theatre
from crash_scene import GENERATE
from custom_objects import KEYS, fresh_objects
from mortal_process import running_fork_server

#: Everybody may use the KMS key of the scenes.
_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}],
}


@pytest.fixture(scope="module")
def rig(rig: Rig) -> Rig:
    """All tests here run without the webhook."""
    rig.leave_webhook_out()
    return rig


@pytest.fixture(scope="module")
def theatre(rig: Rig, api_client: client.ApiClient) -> Iterator[Theatre]:
    """Make the KMS key, and get ready to start controllers."""
    with fresh_objects(api_client) as objects, running_fork_server(rig) as server:
        controller = server.start({})
        objects.create_key(policy=json.dumps(_POLICY))
        objects.wait_ready("main", plural=KEYS)
        controller.kill()
        yield Theatre(rig, api_client, server, objects.get(KEYS, "main")["status"]["arn"])


@pytest.mark.usefixtures("garbage_collector")
@pytest.mark.parametrize("name", LIVES)
def test_killed_at_every_call_nothing_is_lost_or_made_twice(theatre: Theatre, name: str) -> None:
    """One ciphertext and one Secret per version, no orphan, whatever the controller was about to do."""
    life = LIVES[name]
    points = theatre.find_points(life, SHOP)
    assert {Point(call, 1, moment) for call in life.calls for moment in Moment} <= {*points}
    # Who deletes a request at the first death leaves nothing to read for a second controller.
    plan = [(point,) for point in points] if life.is_rushed else plan_deaths(points)
    hit = [point for deaths in plan for point in theatre.run(life, deaths).hit]
    assert all(point.is_uncertain for point in {*points} - {*hit}), {*points} - {*hit}


def test_killed_twice_at_the_same_call_nothing_is_lost_or_made_twice(theatre: Theatre) -> None:
    """A crash loop loses at most what nobody has ever seen: a data key per crash, at two points alone."""
    life = LIVES["issue"]
    lost = {Point(f"{GENERATE} {SHOP}", 1, Moment.AFTER), Point(CREATE_SECRET, 1, Moment.BEFORE)}
    for deaths in plan_deaths(theatre.find_points(life, SHOP)):
        twice = [point for point in deaths for _ in range(2)]
        outcome = theatre.run(life, twice)
        for point in deaths:
            wanted = 0 if point.is_uncertain else 2 if point.is_repeated else 1
            assert outcome.hit.count(point) >= wanted, point
        if {*deaths} & lost:
            assert outcome.hidden == 2


def test_killed_at_every_call_of_its_start_a_controller_leaves_its_work_to_the_next(theatre: Theatre) -> None:
    """Discovery, Lease, lists and watches of all kinds: one request lives through a death at each of them."""
    life = LIVES["issue"]
    points = theatre.find_points(life, CLUSTER, SYSTEM)
    assert {Point("PUT system leases/datakeys-controller", 1, moment) for moment in Moment} <= {*points}
    assert {Point("WATCH cluster datakeyrequests", 1, moment) for moment in Moment} <= {*points}
    outcome = theatre.run(life, points)
    assert all(point.is_uncertain for point in {*points} - {*outcome.hit}), {*points} - {*outcome.hit}
