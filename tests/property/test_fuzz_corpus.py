"""What fuzzing found worth keeping, gone through again."""

from __future__ import annotations

import sys

import pytest

from fuzz import corpus
from fuzz.targets import TARGETS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="layers are extracted on Linux")


@pytest.mark.parametrize("target", TARGETS)
def test_no_kept_input_breaks_its_target(target: str) -> None:
    inputs = [*corpus.seeds(target), *corpus.load(target)]
    assert len(inputs) > len(corpus.seeds(target)), "the corpus is not there"
    for data in inputs:
        try:
            TARGETS[target](data)
        except Exception as error:
            error.add_note(f"the input: {data!r}")
            raise
