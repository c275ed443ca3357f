"""The graph and its solver, with operations that only pretend."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from attrs import evolve, field, frozen

from pycontainer.build._cache import BuildCache
from pycontainer.build._events import (
    Event,
    VertexCached,
    VertexFinished,
    VertexLog,
    VertexStarted,
)
from pycontainer.build._graph import Layer, Result, Source, State, Step, Task, Vertex, depth_first
from pycontainer.build._solver import Solver
from pycontainer.build._work import Cancellation, Cancelled, Work, default_epoch
from pycontainer.content import Store
from pycontainer.errors import BuildError, TimeoutExpired
from pycontainer.oci import Descriptor, Digest, ImageConfig, media_types


@frozen
class Nothing(Source):
    """An empty image."""

    @property
    def title(self) -> str:
        return "FROM scratch"

    def load(self, work: Work) -> State:
        return State()


@frozen
class Write(Step):
    """Makes a layer that holds its own text and knows how often it was made."""

    text: str
    action: Callable[[Work], None] = field(default=lambda work: None, repr=False)

    @property
    def title(self) -> str:
        return f"WRITE {self.text}"

    def definition(self) -> object:
        return self.text

    def task(self, base: State, others: Sequence[Result], work: Work) -> Task:
        return WriteTask(self, base, others, work)

    def apply(self, base: State, layer: Layer | None, work: Work) -> State:
        return base.after(work.history(self.title), layer=layer)


@frozen
class WriteTask(Task):
    step: Write
    base: State
    others: Sequence[Result]
    work: Work

    def cache_keys(self) -> Iterator[object]:
        chains = [other.chain_id for other in self.others if isinstance(other, State)]
        yield [self.step.text, self.base.chain_id, chains]

    def execute(self) -> Layer | None:
        self.step.action(self.work)
        text = self.step.text
        with self.work.store.blobs.writer() as blob:
            blob.write(text.encode())
            digest = blob.commit()
        return Layer(Descriptor(media_types.OCI_LAYER, digest, len(text)), digest)


def solve(
    store: Store,
    target: Vertex,
    progress: Callable[[Event], None] | None = None,
    *,
    use_cache: bool = True,
    timeout: float | None = None,
) -> State:
    solver = Solver(Work(store=store), BuildCache(store), progress=progress, use_cache=use_cache)
    with store.lease():
        result = solver.solve(target, timeout=timeout)
    assert isinstance(result, State)
    return result


def write(text: str, *inputs: Vertex, action: Callable[[Work], None] | None = None) -> Vertex:
    operation = Write(text) if action is None else Write(text, action)
    return Vertex(operation, inputs or (Vertex(Nothing()),))


# --- vertices ------------------------------------------------------------------------------------


def test_vertices_are_equal_if_they_do_the_same_to_the_same() -> None:
    assert write("a") == write("a")
    assert write("a") != write("b")
    assert write("b", write("a")) != write("b")
    assert len({write("a"), write("a"), write("b")}) == 2
    assert write("a") != "a"


def test_each_vertex_comes_once_and_after_its_inputs() -> None:
    base = write("base")
    left, right = write("left", base), write("right", base)
    target = write("target", left, right)
    titles = [vertex.title for vertex in depth_first(target)]
    assert titles == ["FROM scratch", "WRITE base", "WRITE left", "WRITE right", "WRITE target"]


def test_a_graph_deeper_than_the_interpreter_recurses() -> None:
    vertex = Vertex(Nothing())
    for number in range(3000):
        vertex = write(str(number), vertex)
    assert len(depth_first(vertex)) == 3001


# --- states --------------------------------------------------------------------------------------


def test_a_state_tells_layers_from_changes_of_the_config() -> None:
    work = Work(store=None, epoch=86400)  # type: ignore[arg-type]
    layer = Layer(Descriptor(media_types.OCI_LAYER, Digest.of(b""), 0), Digest.of(b""))
    state = State().after(work.history("RUN one"), layer=layer).after(work.history("ENV A=b"))
    assert state.chain_id == layer.diff_id
    assert state.config.diff_ids == (layer.diff_id,)
    assert state.config.created == "1970-01-02T00:00:00Z"
    assert [(h.created_by, h.empty_layer) for h in state.config.history] == [
        ("RUN one", False),
        ("ENV A=b", True),
    ]
    assert State().chain_id is None


def test_a_changed_state_encodes_anew() -> None:
    parsed = ImageConfig.parse(
        b'{"os":"linux",  "architecture":"arm64","rootfs":{"type":"layers","diff_ids":[]}}'
    )
    work = Work(store=None)  # type: ignore[arg-type]
    changed = State(config=parsed).after(work.history("ENV A=b"))
    assert ImageConfig.parse(changed.config.encode()).history[0].created_by == "ENV A=b"


# --- the epoch -----------------------------------------------------------------------------------


def test_the_epoch_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert default_epoch() == 0
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert default_epoch() == 1_700_000_000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(BuildError, match="'yesterday'"):
        default_epoch()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(10**12))
    with pytest.raises(BuildError, match="not a number of seconds"):
        default_epoch()
    with pytest.raises(ValueError, match="epoch"):
        Work(store=None, epoch=-1)  # type: ignore[arg-type]


# --- solving -------------------------------------------------------------------------------------


def test_only_what_the_target_needs_is_solved(store: Store) -> None:
    events: list[Event] = []
    base = write("base")
    write("unneeded", base)
    solve(store, write("target", base), events.append)
    started = {event.title for event in events if isinstance(event, VertexStarted)}
    assert started == {"FROM scratch", "WRITE base", "WRITE target"}


def test_a_vertex_that_two_need_is_solved_once(store: Store) -> None:
    done: list[str] = []
    base = write("base", action=lambda work: done.append("base"))
    other = write("base", action=lambda work: done.append("base"))
    solve(store, write("target", write("left", base), write("right", other)))
    assert done == ["base"]


def test_independent_vertices_are_solved_at_the_same_time(store: Store) -> None:
    meeting = threading.Barrier(2)

    def meet(work: Work) -> None:
        meeting.wait(timeout=20)

    solve(store, write("target", write("left", action=meet), write("right", action=meet)))


def test_events_begin_end_and_carry_the_log(store: Store) -> None:
    events: list[Event] = []
    vertex = write("a", action=lambda work: work.log("stdout", "hello"))
    solve(store, vertex, events.append)
    mine = [event for event in events if event.vertex == vertex.digest]
    assert mine[0] == VertexStarted(vertex.digest, "WRITE a")
    assert mine[1] == VertexLog(vertex.digest, "WRITE a", "stdout", "hello")
    assert isinstance(mine[2], VertexFinished)
    assert mine[2].error is None
    assert mine[2].seconds >= 0


def test_what_is_cached_is_not_executed(store: Store) -> None:
    done: list[str] = []
    target = write("b", write("a", action=lambda work: done.append("a")))
    first = solve(store, target)
    events: list[Event] = []
    assert solve(store, target, events.append) == first
    assert done == ["a"]
    cached = [event.title for event in events if isinstance(event, VertexCached)]
    assert cached == ["WRITE a", "WRITE b"]


def test_without_the_cache_all_is_executed_and_remembered(store: Store) -> None:
    done: list[str] = []
    target = write("a", action=lambda work: done.append("a"))
    solve(store, target, use_cache=False)
    solve(store, target, use_cache=False)
    solve(store, target)
    assert done == ["a", "a"]


def test_the_epoch_is_part_of_the_key(store: Store) -> None:
    done: list[str] = []
    target = write("a", action=lambda work: done.append("a"))
    for epoch in (0, 1, 0):
        Solver(Work(store=store, epoch=epoch), BuildCache(store)).solve(target)
    assert done == ["a", "a"]


def test_the_first_failure_ends_the_build(store: Store) -> None:
    begun = threading.Event()
    ended = threading.Event()
    later: list[str] = []

    def fail(work: Work) -> None:
        begun.wait(20)
        raise BuildError("no luck")

    def linger(work: Work) -> None:
        with work.cancellation.calling(ended.set):
            begun.set()
            assert ended.wait(20)

    events: list[Event] = []
    good = write("after", write("slow", action=linger), action=lambda work: later.append("x"))
    with pytest.raises(BuildError, match="no luck"):
        solve(store, write("target", write("bad", action=fail), good), events.append)
    assert later == []
    ends = {event.title: event.error for event in events if isinstance(event, VertexFinished)}
    assert ends["WRITE bad"] == "no luck"
    assert ends["WRITE slow"] is not None


def test_a_build_ends_when_its_time_is_up(store: Store) -> None:
    def linger(work: Work) -> None:
        told = threading.Event()
        with work.cancellation.calling(told.set):
            told.wait(20)

    begun = time.monotonic()
    with pytest.raises(TimeoutExpired, match=r"0\.05 seconds"):
        solve(store, write("slow", action=linger), timeout=0.05)
    assert time.monotonic() - begun < 10


def test_an_error_in_the_callback_is_the_builds(store: Store) -> None:
    def refuse(event: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        solve(store, write("a"), refuse)


def test_a_cancelled_build_does_not_begin_waiting() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled), cancellation.calling(lambda: None):
        pass


# --- builds beside each other --------------------------------------------------------------------


def in_threads(*work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_two_builds_of_the_same_do_the_work_once(store: Store) -> None:
    begun = threading.Event()
    done: list[str] = []
    events: list[Event] = []

    def slowly(work: Work) -> None:
        begun.set()
        time.sleep(0.1)
        done.append("a")

    def first() -> None:
        solve(store, write("a", action=slowly))

    def second() -> None:
        assert begun.wait(20)
        with Store.open(store.path) as own:  # as another process would
            solve(own, write("a", action=slowly), events.append)

    in_threads(first, second)
    assert done == ["a"]
    assert [event.title for event in events if isinstance(event, VertexCached)] == ["WRITE a"]
    assert list((store.path / "build").iterdir()) == []


def test_who_waits_for_a_build_that_fails_tries_too(store: Store) -> None:
    begun = threading.Event()
    done: list[str] = []

    def fail(work: Work) -> None:
        begun.set()
        time.sleep(0.05)
        raise BuildError("no luck")

    def first() -> None:
        with pytest.raises(BuildError, match="no luck"):
            solve(store, write("a", action=fail))

    def second() -> None:
        assert begun.wait(20)
        solve(store, write("a", action=lambda work: done.append("a")))

    in_threads(first, second)
    assert done == ["a"]


def test_waiting_for_another_build_ends_when_time_is_up(store: Store) -> None:
    begun, enough = threading.Event(), threading.Event()

    def hold(work: Work) -> None:
        begun.set()
        assert enough.wait(20)

    def second() -> None:
        assert begun.wait(20)
        with pytest.raises(TimeoutExpired):
            solve(store, write("a"), timeout=0.05)
        enough.set()

    in_threads(lambda: solve(store, write("a", action=hold)), second)


# --- the cache -----------------------------------------------------------------------------------


def test_cached_layers_survive_collection_until_they_are_pruned(store: Store) -> None:
    state = solve(store, write("a"))
    digest = state.layers[0].descriptor.digest
    store.collect()
    assert store.blobs.exists(digest)

    cache = BuildCache(store)
    assert [(entry.title, entry.size) for entry in cache.entries()] == [("WRITE a", 1)]
    assert cache.prune(unused_for=3600) == ()
    assert [entry.layer for entry in cache.prune()] == [state.layers[0]]
    assert cache.entries() == ()
    store.collect()
    assert not store.blobs.exists(digest)


def test_an_entry_whose_blob_is_gone_is_a_miss(store: Store) -> None:
    done: list[str] = []
    target = write("a", action=lambda work: done.append("a"))
    state = solve(store, target)
    store.blobs.delete(state.layers[0].descriptor.digest)
    assert solve(store, target) == state
    assert done == ["a", "a"]


def test_a_step_without_a_layer_is_cached_too(store: Store) -> None:
    class TouchTask(WriteTask):
        def execute(self) -> Layer | None:
            self.step.action(self.work)
            return None

    @frozen
    class Touch(Write):
        def task(self, base: State, others: Sequence[Result], work: Work) -> Task:
            return TouchTask(self, base, others, work)

    done: list[str] = []
    target = Vertex(Touch("a", lambda work: done.append("a")), (Vertex(Nothing()),))
    solve(store, target)
    state = solve(store, target)
    assert done == ["a"]
    assert state.layers == ()
    assert state.config.history[0].empty_layer


def test_a_later_key_finds_the_layer_and_teaches_the_earlier(store: Store) -> None:
    asked: list[str] = []

    @frozen
    class TwoKeys(Write):
        cheap: str = ""

        def definition(self) -> object:
            return [self.text, self.cheap]

        def task(self, base: State, others: Sequence[Result], work: Work) -> Task:
            return TwoKeysTask(self, base, others, work)

    class TwoKeysTask(WriteTask):
        def cache_keys(self) -> Iterator[object]:
            assert isinstance(self.step, TwoKeys)
            asked.append("cheap")
            yield ["cheap", self.step.cheap]
            asked.append("dear")
            yield ["dear", self.step.text]

    done: list[str] = []
    first = TwoKeys("a", lambda work: done.append("a"), cheap="one")
    second = evolve(first, cheap="two")
    for operation in (first, second, second):
        solve(store, Vertex(operation, (Vertex(Nothing()),)))
    assert done == ["a"]
    assert asked == ["cheap", "dear", "cheap", "dear", "cheap"]
