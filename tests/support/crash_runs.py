"""Runs lives of a data key with controllers that are killed, and judges what is left.

Zone: tests.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from kubernetes import client

from controller_rig import Rig
from crash_lives import CREATE_SECRET, Life, Stage
from crash_points import Passed, Point, select_points
from crash_scene import GENERATE, Scene, check_visible, count_hidden, fresh_scene
from mortal_process import ForkServer, MortalController, wait_until_in_place
from waiting import eventually

SHOP: Final = "shop"
SYSTEM: Final = "system"
#: What a controller watches before the changes come.
_WATCHES: Final = ("cluster datakeyrequests", "cluster kmskeys", "cluster deployments", "system configmaps")
_SETTLED_SECONDS: Final = 120.0
#: How long is waited for a call that isn't made every time.
_UNCERTAIN_SECONDS: Final = 3.0
#: How long nothing is called, and no call of the scene waits for its answer, before a controller is idle.
_IDLE_SECONDS: Final = 1.5


@dataclass(frozen=True)
class Outcome:
    """What has become of one life.

    Attributes:
        dead: What each controller that has died had done, in their order.
        last: What the last controller has done.
        hidden: How many data keys were generated that nobody could ever see.
    """

    dead: tuple[Passed, ...]
    last: Passed
    hidden: int

    @property
    def hit(self) -> tuple[Point, ...]:
        """Return where controllers have died."""
        return tuple(passed.death for passed in self.dead if passed.death is not None)


@dataclass
class Run:
    """One life in one scene, controller after controller.

    Attributes:
        deaths: Where the controllers die that come next; the one after them lives.
    """

    server: ForkServer
    scene: Scene
    life: Life
    deaths: deque[Point]
    dead: list[Passed] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Let a controller that lives prepare the scene, and start the first one that doesn't."""
        self._point: Point | None = None
        if self.life.before:
            self._controller = self._start()
            for stage in self.life.before:
                stage.change(self.scene)
                assert self._settles(stage)
            self._controller.kill()
        self._next()
        wait_until_in_place(self._controller, _WATCHES)

    def live(self) -> None:
        """Make the changes; whenever a controller has died, the next one settles what it has left."""
        rest = deque(self.life.stages)
        while rest:
            stage = rest.popleft()
            stage.change(self.scene)
            while not self._settles(stage):
                while self.life.is_rushed and rest:
                    stage = rest.popleft()
                    stage.change(self.scene)
                self._next()
        while self._point is not None:
            if not self._dies_late(self._point):
                self._controller.kill()  # this time, the call wasn't made again
            self._next()
            while not self._settles(stage):
                self._next()

    def wait_until_idle(self) -> None:
        """Wait until the controller calls nobody any more."""
        count, passed = -1, self._controller.passed
        while count < len(passed.points) or passed.is_under_way(SHOP):
            count = len(passed.points)
            self._controller.wait_for_death(_IDLE_SECONDS)
            passed = self._controller.passed

    def end(self) -> Passed:
        """Kill the last controller; return what it has done."""
        self._controller.kill()
        return self._controller.passed

    def _next(self) -> None:
        if self._point is not None and (passed := self._controller.passed).death is not None:
            assert passed.death == self._point, (passed.death, self._point)
            self.dead.append(passed)
        self._point = self.deaths.popleft() if self.deaths else None
        self._controller = self._start(self._point)

    def _start(self, death: Point | None = None) -> MortalController:
        places = {self.scene.namespace: SHOP, self.scene.rig.installation.namespace: SYSTEM}
        return self.server.start(places, death)

    def _settles(self, stage: Stage) -> bool:
        """Wait until a stage is settled or the controller has died; return whether it lives."""
        controller = self._controller

        def is_over() -> bool:
            return controller.is_dead() or stage.settled(self.scene)

        assert eventually(is_over, _SETTLED_SECONDS), self._tell()
        return not controller.is_dead()

    def _dies_late(self, point: Point) -> bool:
        """Return whether the controller dies when all is settled already: not each call is made again."""
        again = any(passed.death == point for passed in self.dead)
        certain = point.is_repeated if again else not point.is_uncertain
        return self._controller.wait_for_death(_SETTLED_SECONDS if certain else _UNCERTAIN_SECONDS)

    def _tell(self) -> str:
        log = self._controller.log.read_text()[-3000:]
        return f"{self._point}: {self.scene.find_request()} {sorted(self.scene.secrets())} {log}"


@dataclass(frozen=True)
class Theatre:
    """Where lives are run.

    Attributes:
        key: ARN of the KMS key of all scenes that have none of their own.
    """

    rig: Rig
    api: client.ApiClient
    server: ForkServer
    key: str
    _peaceful: dict[int, list[Passed]] = field(default_factory=dict)

    def run(self, life: Life, deaths: Sequence[Point], *, wait_until_idle: bool = False) -> Outcome:
        """Run a life in a fresh namespace and judge it.

        Args:
            life: What happens.
            deaths: Where controllers die, one after the other.
            wait_until_idle: The last controller is to finish what needn't be waited for, too.
        """
        with fresh_scene(self.rig, self.api, "main" if life.own_key else self.key, life.request) as scene:
            try:
                return self._run(scene, life, deaths, wait_until_idle=wait_until_idle)
            except AssertionError as error:
                error.add_note(f"killed: {', '.join(map(str, deaths)) or 'nobody'}")
                raise
            finally:
                # After a failure one may live, and would work on the next scene as well.
                self.server.kill_all()

    def _run(self, scene: Scene, life: Life, deaths: Sequence[Point], *, wait_until_idle: bool) -> Outcome:
        run = Run(self.server, scene, life, deque(deaths))
        run.live()
        if wait_until_idle:
            run.wait_until_idle()
        outcome = Outcome(tuple(run.dead), run.end(), _judge(scene, life))
        least, most = _bound_hidden(outcome.dead)
        assert least <= outcome.hidden <= most, (outcome.hidden, least, most)
        return outcome

    def find_points(self, life: Life, *places: str) -> tuple[Point, ...]:
        """Return the points at which a controller can die, which are those of two lives without deaths."""
        runs = self._peaceful.get(id(life))
        if runs is None:
            runs = [self.run(life, (), wait_until_idle=True).last for _ in range(2)]
            self._peaceful[id(life)] = runs
        return select_points([passed.of(*places) for passed in runs])


def _judge(scene: Scene, life: Life) -> int:
    """Check what is left and what was ever visible; return how many data keys were never."""
    if life.own_key:
        assert scene.rotations() == life.rotations
    scene.clear()
    visible = scene.read_history()
    check_visible(visible, scene.request, life.ciphertexts, given_up=life.is_rushed)
    values = [{scene.open(blob) for blob in blobs} for blobs in visible.all()]
    assert all(len(found) == 1 for found in values), "a ciphertext holds another data key"
    versions = max(len(visible.statuses), len(visible.secrets))
    assert len(set[bytes]().union(*values)) == versions, "versions don't differ, or a Secret does"
    return count_hidden(scene.generated(), visible)


def _bound_hidden(dead: Sequence[Passed]) -> tuple[int, int]:
    """Return how many data keys controllers must and can have lost by their deaths, none ever visible.

    A data key is lost if it was generated and its Secret wasn't created: nobody had it, nothing was
    encrypted with it. What was under way at the moment of death may have come about or not.
    """
    generate, least, most = f"{GENERATE} {SHOP}", 0, 0
    for passed in dead:
        if passed.sent(generate):
            answered, created = passed.answered(generate), passed.sent(CREATE_SECRET)
            least += max(0, answered - created)
            under_way = passed.sent(generate) - answered + created - passed.answered(CREATE_SECRET)
            most += max(0, answered - created) + under_way
    return least, most
