"""Dockerfiles of the kinds people write, on a Debian and a busybox: built, and their programs run."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainer as pc
from busybox import busybox_image
from interop.debian import debian_tar
from pycontainer.build import Builder, Event, VertexCached, VertexLog
from pycontainer.content import Store
from pycontainer.images import Image

__all__ = ["debian_tar"]  # fixtures

pytestmark = [
    pytest.mark.interop("mmdebstrap"),
    pytest.mark.root,
    pytest.mark.xdist_group("debian"),
]


@pytest.fixture(scope="module")
def real_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with ``busybox:1.35``."""
    place = tmp_path_factory.mktemp("real")
    with Store.open(place / "store") as store:
        busybox_image(store, place / "rootfs", "busybox:1.35")
        yield store


@pytest.fixture(scope="module")
def debian(debian_tar: Path, real_store: Store) -> Image:
    """``debian:bookworm``."""
    return Image.import_rootfs(debian_tar, tag="debian:bookworm", store=real_store)


class Project:
    """A directory with a Dockerfile and what it needs, and what its last build told."""

    def __init__(self, context: Path, store: Store) -> None:
        self.context = context
        self.store = store
        self.events: list[Event] = []

    def write(self, name: str, text: str) -> None:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def build(self, tag: str | None = None, *, secrets: dict[str, str] | None = None) -> Image:
        self.events = []
        builder = Builder.from_dockerfile(
            context=self.context, store=self.store, secrets=secrets or {}
        )
        return builder.build(tag, progress=self.events.append, timeout=300)

    def run(self, image: Image, command: list[str] | None = None) -> str:
        done = pc.run(image, command or (), store=self.store, timeout=30)
        assert done.exit_code == 0, done
        return done.text

    @property
    def log(self) -> str:
        return "".join(each.text for each in self.events if isinstance(each, VertexLog))

    @property
    def cached(self) -> int:
        return sum(isinstance(each, VertexCached) for each in self.events)


@pytest.fixture
def project(tmp_path: Path, real_store: Store) -> Project:
    (tmp_path / "context").mkdir()
    return Project(tmp_path / "context", real_store)


def _needs(host: str, port: int) -> None:
    """Skip the test if a host of the internet cannot be reached from this machine."""
    try:
        socket.create_connection((host, port), timeout=10).close()
    except OSError as error:
        pytest.skip(f"cannot reach {host} from here: {error}")


# --- with packages of Debian ------------------------------------------------------------------

_APT = """\
    --mount=type=cache,target=/var/cache/apt,sharing=locked \\
    --mount=type=cache,target=/var/lib/apt,sharing=locked \\
"""


@pytest.mark.usefixtures("debian")
def test_a_c_program_in_stages(project: Project) -> None:
    _needs("deb.debian.org", 80)
    project.write("src/hello.c", '#include <stdio.h>\nint main(void){puts("Hello from C");}\n')
    project.write("src/Makefile", "hello: hello.c\n\t$(CC) -O2 -static -o $@ $<\n")
    project.write(
        "Dockerfile",
        f"""\
# syntax=docker/dockerfile:1
FROM debian:bookworm AS build
RUN rm -f /etc/apt/apt.conf.d/docker-clean
RUN \\
{_APT}    apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make
WORKDIR /src
COPY src/Makefile src/*.c ./
RUN make hello && ./hello

FROM scratch
COPY --from=build /src/hello /usr/bin/
USER 65534:65534
ENTRYPOINT ["/usr/bin/hello"]
""",
    )
    image = project.build("hello:c")
    assert len(image.layers) == 1
    assert project.run(image) == "Hello from C\n"
    project.write("src/hello.c", '#include <stdio.h>\nint main(void){puts("Hello again");}\n')
    assert project.run(project.build()) == "Hello again\n"
    assert project.cached >= 3, "the compiler is not installed again"


@pytest.mark.usefixtures("debian")
def test_an_application_of_pip(project: Project) -> None:
    _needs("deb.debian.org", 80)
    _needs("pypi.org", 443)
    project.write("requirements.txt", "iniconfig==2.0.0\n")
    project.write("app.py", "import iniconfig; print('uses', iniconfig.__name__)\n")
    project.write(".dockerignore", "*\n!requirements.txt\n!app.py\n")
    project.write(
        "Dockerfile",
        f"""\
# syntax=docker/dockerfile:1
FROM debian:bookworm AS python
ENV DEBIAN_FRONTEND=noninteractive PYTHONDONTWRITEBYTECODE=1
RUN rm -f /etc/apt/apt.conf.d/docker-clean
RUN \\
{_APT}    apt-get update && apt-get install -y --no-install-recommends python3-venv

FROM python AS venv
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=cache,target=/wheels \\
    --mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt \\
    --mount=type=secret,id=certificates,target=/run/ca.pem,required \\
    pip download --cert /run/ca.pem -d /wheels -r /tmp/requirements.txt \\
 && pip install --no-index --find-links=/wheels -r /tmp/requirements.txt

FROM python
RUN useradd --system --create-home app
WORKDIR /app
COPY --from=venv /opt/venv /opt/venv
COPY --chown=app:app app.py .
USER app
CMD ["/opt/venv/bin/python", "app.py"]
""",
    )
    secrets = {"certificates": _certificates()}
    image = project.build("app:pip", secrets=secrets)
    assert project.run(image) == "uses iniconfig\n"
    assert (
        project.run(image, ["sh", "-c", "id -un; ls /root/.cache/pip /wheels /run/ca.pem; true"])
        == "app\n"
    )
    project.write("requirements.txt", "# the same, pinned\niniconfig==2.0.0\n")
    project.build(secrets=secrets)
    assert "File was already downloaded /wheels/iniconfig-2.0.0" in project.log


def _certificates() -> str:
    """This machine's certificate authorities: a proxy may have one of its own."""
    paths = ssl.get_default_verify_paths()
    path = os.environ.get("PIP_CERT") or paths.cafile or "/etc/ssl/certs/ca-certificates.crt"
    return Path(path).read_text()


@pytest.mark.usefixtures("debian")
def test_scripts_in_heredocs(project: Project) -> None:
    project.write(
        "Dockerfile",
        """\
# syntax=docker/dockerfile:1
FROM debian:bookworm
ARG GREETING=hello
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN <<EOF
mkdir -p /srv/site
printf '%s\\n' one two three | tee /srv/list >/dev/null
useradd --system web
EOF
RUN <<'SCRIPT'
#!/usr/bin/perl
use strict;
open my $out, '>', '/srv/perl' or die;
print $out join(',', map { $_ * 2 } 1 .. 4), "\\n";
SCRIPT
RUN cat <<one > /srv/input && cat <<-two >> /srv/input
first $GREETING
one
\tsecond
two
COPY --chown=web:web --chmod=640 <<-"nginx.conf" <<index.html /srv/site/
\tserver {
\t\troot $document_root;
\t}
nginx.conf
<h1>$GREETING</h1>
index.html
COPY --chmod=755 <<entry /usr/local/bin/entry
#!/bin/sh
exec "\\$@"
entry
ENTRYPOINT ["entry"]
CMD ["cat", "/srv/list", "/srv/perl", "/srv/input", "/srv/site/nginx.conf", "/srv/site/index.html"]
""",
    )
    image = project.build()
    assert project.run(image) == (
        "one\ntwo\nthree\n2,4,6,8\nfirst hello\nsecond\n"
        "server {\nroot $document_root;\n}\n<h1>hello</h1>\n"
    )
    listed = project.run(image, ["stat", "-c", "%a %U:%G %n", "/srv/site/index.html"])
    assert listed == "640 web:web /srv/site/index.html\n"


# --- on busybox -------------------------------------------------------------------------------


def test_a_service_without_root(project: Project) -> None:
    project.write("site/index.html", "<h1>It works</h1>\n")
    project.write("site/draft.html", "not yet\n")
    project.write(".dockerignore", "**/draft.*\nDockerfile\n")
    project.write(
        "Dockerfile",
        """\
FROM busybox:1.35
RUN echo web:x:10001:10001::/srv/www:/bin/false >> /etc/passwd && echo web:x:10001: >> /etc/group
ENV PORT=8080
WORKDIR /srv/www
COPY --chown=web:web site/ .
USER web:web
EXPOSE $PORT
VOLUME /var/log/web
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --timeout=2s CMD wget -q -O /dev/null http://127.0.0.1:$PORT/
CMD exec httpd -f -p "$PORT" -h /srv/www
""",
    )
    image = project.build("web:1")
    config = image.config.config
    assert config.user == "web:web"
    assert [*config.exposed_ports] == ["8080/tcp"]
    ready = pc.ready.port(8080)
    with pc.Container.start(image, ready=ready, store=project.store, timeout=30) as container:
        with container.connect(8080) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.endswith(b"<h1>It works</h1>\n")
        assert container.exec(["id", "-un"], check=True).stdout == b"web\n"
        assert container.exec(["ls", "/srv/www"], check=True).stdout == b"index.html\n"


def test_a_base_with_triggers(project: Project) -> None:
    project.write(
        "Dockerfile",
        """\
FROM busybox:1.35
WORKDIR /usr/src/app
ONBUILD ARG MODE=production
ONBUILD ENV MODE=$MODE
ONBUILD COPY manifest.txt ./
ONBUILD RUN while read name; do echo "installed $name" >> installed; done < manifest.txt
ONBUILD COPY . .
CMD ["sh", "start.sh"]
""",
    )
    project.build("runner:onbuild")
    project.write("manifest.txt", "left\nright\n")
    project.write("start.sh", "cat installed; echo $MODE\n")
    project.write("Dockerfile", "FROM runner:onbuild\n")
    image = project.build()
    assert project.run(image) == "installed left\ninstalled right\nproduction\n"
    assert image.config.config.on_build == ()
    project.write("start.sh", "echo changed\n")
    assert project.run(project.build()) == "changed\n"
    assert project.cached >= 2, "what the manifest names is not installed again"
