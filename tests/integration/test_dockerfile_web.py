"""Dockerfiles and Builders that add files from a web server."""

from __future__ import annotations

import hashlib

from build_bench import TAR, Bench, bench, website
from built_images import files_of
from pycontainer.build import Builder
from pycontainer.layers import Kind

__all__ = ["bench", "website"]  # fixtures


def test_files_from_the_web(bench: Bench, website: str) -> None:
    digest = hashlib.sha256(b"from the web").hexdigest()
    image = bench.build(
        f"FROM scratch\nADD --checksum=sha256:{digest} {website}/file.txt /d/\n"
        f"ADD {website}/x.tar /kept/\nADD --unpack {website}/x.tar /unpacked\n"
    )
    files = files_of(image)
    assert files["d/file.txt"].content == b"from the web"
    assert files["d/file.txt"].mode == 0o600
    assert files["unpacked/d/a"].content == b"in"
    assert files["kept/x.tar"].kind is Kind.FILE
    assert set(bench.files(f"FROM scratch\nADD {website}/file.txt /d\n")) == {"d"}
    error = bench.error(f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {website}/file.txt /d\n")
    assert digest in error.message
    assert "404" in bench.error(f"FROM scratch\nADD {website}/none /d\n").message


def test_a_builder_has_a_method_for_each_instruction(bench: Bench, website: str) -> None:
    bench.write({"x.tar": TAR, "d/a.txt": "a", "d/b.md": "b"})
    written = bench.build(
        "FROM scratch\nMAINTAINER me\nADD x.tar /to\nADD --chmod=600 "
        f"{website}/file.txt /f\nCOPY --exclude=*.md --parents --chmod=u=rwX,go= d /p/\n"
        "HEALTHCHECK --interval=2s --retries=1 CMD true\nONBUILD RUN x\n"
    )
    built = (
        Builder.scratch(context=bench.context)
        .author("me")
        .add("x.tar", "/to")
        .add(f"{website}/file.txt", "/f")
        .copy("d", "/p/", exclude=["*.md"], parents=True, mode="u=rwX,go=")
        .healthcheck("true", interval=2, retries=1)
        .on_build("RUN x")
        .build(store=bench.store)
    )
    assert built.digest == written.digest
