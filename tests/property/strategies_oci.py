"""Values of the OCI specifications, as documents may have them."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from pycontainer.oci import (
    ContainerConfig,
    Descriptor,
    Digest,
    Healthcheck,
    History,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    Reference,
    media_types,
)

__all__ = [
    "configs",
    "descriptors",
    "digests",
    "documents",
    "indexes",
    "json_values",
    "manifests",
    "platforms",
    "references",
]

LOWER = string.ascii_lowercase + string.digits
texts = st.text(max_size=8)
digests = st.builds(Digest.of, st.binary(max_size=4), st.sampled_from(["sha256", "sha512"]))
sizes = st.integers(0, (1 << 63) - 1)
integers = st.integers(-(1 << 63), (1 << 63) - 1)
text_maps = st.dictionaries(texts, texts, max_size=3)
text_lists = st.lists(texts, max_size=3).map(tuple)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
# A prefix keeps the names of unknown members apart from those of known ones.
extras = st.dictionaries(texts.map("x-".__add__), json_values, max_size=2)

platforms = st.builds(
    Platform,
    os=st.sampled_from(["linux", "windows"]),
    architecture=st.sampled_from(["amd64", "arm", "arm64", "s390x"]),
    variant=st.sampled_from(["", "v1", "v6", "v7", "v8", "v8.2", "odd"]),
    os_version=texts,
    os_features=text_lists,
    extra=extras,
)


@st.composite
def descriptors(draw: st.DrawFn) -> Descriptor:
    """Descriptors, some with their content embedded."""
    data = draw(st.none() | st.binary(max_size=6))
    return Descriptor(
        media_type=draw(texts),
        digest=draw(digests) if data is None else Digest.of(data),
        size=draw(sizes) if data is None else len(data),
        platform=draw(st.none() | platforms),
        annotations=draw(text_maps),
        urls=draw(text_lists),
        artifact_type=draw(st.none() | texts),
        data=data,
        extra=draw(extras),
    )


descriptor_lists = st.lists(descriptors(), max_size=3).map(tuple)

manifests = st.builds(
    Manifest,
    config=descriptors(),
    layers=descriptor_lists,
    media_type=st.sampled_from(sorted(media_types.MANIFESTS)),
    artifact_type=st.none() | texts,
    subject=st.none() | descriptors(),
    annotations=text_maps,
    extra=extras,
)
indexes = st.builds(
    Index,
    manifests=descriptor_lists,
    media_type=st.sampled_from(sorted(media_types.INDEXES)),
    artifact_type=st.none() | texts,
    subject=st.none() | descriptors(),
    annotations=text_maps,
    extra=extras,
)
healthchecks = st.builds(
    Healthcheck,
    test=text_lists,
    interval=integers,
    timeout=integers,
    start_period=integers,
    retries=integers,
    start_interval=integers,
    extra=extras,
)
container_configs = st.builds(
    ContainerConfig,
    user=texts,
    env=text_lists,
    entrypoint=st.none() | text_lists,
    cmd=st.none() | text_lists,
    working_dir=texts,
    labels=text_maps,
    exposed_ports=st.sets(texts, max_size=3).map(sorted).map(tuple),
    volumes=st.sets(texts, max_size=3).map(sorted).map(tuple),
    stop_signal=texts,
    shell=st.none() | text_lists,
    healthcheck=st.none() | healthchecks,
    on_build=text_lists,
    extra=extras,
)
histories = st.builds(
    History,
    created=st.none() | texts,
    created_by=texts,
    author=texts,
    comment=texts,
    empty_layer=st.booleans(),
    extra=extras,
)
configs = st.builds(
    ImageConfig,
    os=st.sampled_from(["linux", "windows"]),
    architecture=texts,
    variant=texts,
    os_version=texts,
    os_features=text_lists,
    created=st.none() | texts,
    author=texts,
    config=container_configs,
    diff_ids=st.lists(digests, max_size=3).map(tuple),
    history=st.lists(histories, max_size=3).map(tuple),
    extra=extras,
)
documents: st.SearchStrategy[Manifest | Index | ImageConfig] = manifests | indexes | configs


# --- references ------------------------------------------------------------------------------

_label = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,6}[a-zA-Z0-9])?", fullmatch=True)
_ports = st.just("") | st.integers(1, 65535).map(":{}".format)
_hosts = st.one_of(
    st.just("docker.io"),
    st.just("localhost"),
    st.lists(_label, min_size=2, max_size=3).map(".".join).filter(lambda h: h != "index.docker.io"),
    st.builds("{}:{}".format, _label, st.integers(0, 65535)),
    st.builds("{}{}".format, st.sampled_from(["[::1]", "[fe80::A]", "127.0.0.1"]), _ports),
)
_words = st.text(LOWER, min_size=1, max_size=5)
_separators = st.sampled_from([".", "_", "__", "-", "---"])
_parts = st.builds(
    lambda first, rest: first + "".join(a + b for a, b in rest),
    _words,
    st.lists(st.tuples(_separators, _words), max_size=2),
) | st.sampled_from(["library", "localhost"])
_tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@st.composite
def references(draw: st.DrawFn) -> Reference:
    """Complete references, made from the parts of the grammar and not from a text."""
    registry = draw(_hosts)
    parts = draw(st.lists(_parts, min_size=1, max_size=4))
    if registry == "docker.io" and len(parts) == 1:
        parts.insert(0, "library")
    digest = draw(st.none() | digests)
    tag = draw(_tags if digest is None else st.none() | _tags)
    return Reference(registry, "/".join(parts), tag, digest)
