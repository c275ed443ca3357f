"""Solves a graph: each vertex once, independent ones at the same time, what is cached not at all."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from pycontainer.build._cache import BuildCache, cache_key
from pycontainer.build._cache_records import Record
from pycontainer.build._events import VertexCached, VertexFinished, VertexLog, VertexStarted
from pycontainer.build._graph import Source, State, Vertex, depth_first
from pycontainer.content import exclusive
from pycontainer.errors import TimeoutExpired
from pycontainer.oci import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from pycontainer.build._cache_imports import CacheImports
    from pycontainer.build._events import Event, Progress
    from pycontainer.build._graph import Layer, Result, Task
    from pycontainer.build._work import Work

__all__ = ["Solver"]

_THREADS: Final = max(4, os.cpu_count() or 1)


class Solver:
    """Solves the vertices of one build.

    Args:
        work: The surroundings that the steps work in.
        cache: Where layers are looked up and remembered.
        progress: Told what happens.
        use_cache: Whether to look layers up; they are remembered in any case.
        imports: Caches from elsewhere, asked for what `cache` does not know.

    Attributes:
        results: What each vertex gave, once `solve` has returned.
    """

    def __init__(
        self,
        work: Work,
        cache: BuildCache,
        *,
        progress: Progress | None = None,
        use_cache: bool = True,
        imports: CacheImports | None = None,
    ) -> None:
        self._work = work
        self._imports = imports
        self._records: dict[Digest, Record] = {}
        self.results: Mapping[Vertex, Result] = {}
        self._cache = cache
        self._progress = progress
        self._use_cache = use_cache
        self._telling = threading.Lock()

    def solve(self, target: Vertex, *, timeout: float | None = None) -> Result:
        """Solve a vertex and what it needs.

        After a failure no further step begins and running commands are killed; the error of the step
        that failed first is raised when all have ended.

        Args:
            target: What is wanted.
            timeout: Seconds.

        Raises:
            BuildError: A step failed.
            TimeoutExpired: Time is up; all steps were ended.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="pycontainer-build") as pool:
            run = _Run(self, pool, target)
            try:
                while run.pending:
                    left = None if deadline is None else max(0.0, deadline - time.monotonic())
                    done, _ = wait(run.pending, left, FIRST_COMPLETED)
                    if not done:
                        raise TimeoutExpired(f"the build did not finish within {timeout} seconds")
                    for future in done:
                        run.collect(future)
            except BaseException:
                self._work.cancellation.cancel()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        self.results = run.results
        return run.results[target]

    @property
    def records(self) -> tuple[Record, ...]:
        """What the steps so far made, or were spared."""
        with self._telling:
            return tuple(self._records.values())

    def solve_vertex(self, vertex: Vertex, inputs: Sequence[Result]) -> Result:
        """Solve one vertex whose inputs are solved."""
        started = time.monotonic()
        self._tell(VertexStarted(*self._named(vertex)))
        error: str | None = None
        try:
            self._work.cancellation.check()
            work = attrs.evolve(self._work, log=partial(self._log, vertex))
            operation = vertex.operation
            if isinstance(operation, Source):
                return operation.load(work)
            base, *others = inputs
            assert isinstance(base, State), f"{vertex.title} does not continue an image"
            task = operation.task(base, others, work)
            layer = None if task is None else self._layer(vertex, task)
            return operation.apply(base, layer, work)
        except BaseException as failure:
            located = failure if vertex.location is None else vertex.location.located(failure)
            error = str(located) or type(located).__name__
            if located is failure:
                raise
            raise located from failure
        finally:
            seconds = time.monotonic() - started
            self._tell(VertexFinished(*self._named(vertex), seconds, error))

    def _layer(self, vertex: Vertex, task: Task) -> Layer | None:
        """The task's layer, from the cache or by execution."""
        missed: list[Digest] = []
        for material in task.cache_keys():
            kind = type(vertex.operation).__name__
            form = [self._work.compression.value, self._work.level]
            key = cache_key(kind, self._work.epoch, form, material)
            found = self._lookup(vertex, [key], missed)
            if found is not None:
                return found.layer
            missed.append(key)
        if not self._use_cache:
            return self._execute(vertex, task, missed)
        # Whoever makes the same at the same time, in this process or another, shares the last key.
        lock = self._work.store.directory("build") / f".{missed[-1].hex}.lock"
        with exclusive(lock, waiting=self._work.cancellation.check):
            found = self._lookup(vertex, missed, missed)
            return self._execute(vertex, task, missed) if found is None else found.layer

    def _lookup(
        self, vertex: Vertex, keys: Sequence[Digest], missed: Sequence[Digest]
    ) -> Record | None:
        """What a cache has for the first key that it knows; the missed ones are taught that."""
        if not self._use_cache:
            return None
        entry = next(filter(None, map(self._cache.lookup, keys)), None)
        if entry is not None:
            found: Record | None = Record(entry.key, entry.title, entry.layer)
        else:
            found = None if self._imports is None else self._imports.find(keys)
        if found is not None:
            others = [key for key in missed if key != found.key]
            if entry is None:
                others.append(found.key)
            self._cache.record(others, vertex.title, found.layer)
            self._note([found.key, *others], vertex, found.layer)
            self._tell(VertexCached(*self._named(vertex), imported=entry is None))
        return found

    def _execute(self, vertex: Vertex, task: Task, keys: Sequence[Digest]) -> Layer | None:
        self._work.cancellation.check()
        layer = task.execute()
        self._cache.record(keys, vertex.title, layer)
        self._note(keys, vertex, layer)
        return layer

    def _note(self, keys: Sequence[Digest], vertex: Vertex, layer: Layer | None) -> None:
        with self._telling:
            self._records.update((key, Record(key, vertex.title, layer)) for key in keys)

    def _log(self, vertex: Vertex, stream: Literal["stdout", "stderr"], text: str) -> None:
        self._tell(VertexLog(*self._named(vertex), stream, text))

    def _named(self, vertex: Vertex) -> tuple[Digest, str]:
        """What events call a vertex; with its platform if the build is for several."""
        platform = self._work.platform
        if platform is None:
            return vertex.digest, vertex.title
        return Digest.of(f"{vertex.digest} {platform}".encode()), f"[{platform}] {vertex.title}"

    def _tell(self, event: Event) -> None:
        if self._progress is not None:
            with self._telling:
                self._progress(event)


class _Run:
    """One solving of a graph: what is solved, what is under way, what waits for which inputs."""

    def __init__(self, solver: Solver, pool: ThreadPoolExecutor, target: Vertex) -> None:
        self._solver = solver
        self._pool = pool
        self._needs: dict[Vertex, int] = {}
        self._waiting: dict[Vertex, list[Vertex]] = {}
        self.pending: dict[Future[Result], Vertex] = {}
        self.results: dict[Vertex, Result] = {}
        for vertex in depth_first(target):
            inputs = set(vertex.inputs)
            self._needs[vertex] = len(inputs)
            for needed in inputs:
                self._waiting.setdefault(needed, []).append(vertex)
        for vertex in [each for each, count in self._needs.items() if not count]:
            self._submit(vertex)

    def collect(self, future: Future[Result]) -> None:
        """Take a result and begin what waited for it; raise the error of a failed vertex."""
        vertex = self.pending.pop(future)
        self.results[vertex] = future.result()
        for follower in self._waiting.get(vertex, ()):
            self._needs[follower] -= 1
            if not self._needs[follower]:
                self._submit(follower)

    def _submit(self, vertex: Vertex) -> None:
        inputs = [self.results[each] for each in vertex.inputs]
        # In a copy of this thread's context: what is added to the store belongs to the build's lease.
        context = contextvars.copy_context()
        future = self._pool.submit(context.run, self._solver.solve_vertex, vertex, inputs)
        self.pending[future] = vertex
