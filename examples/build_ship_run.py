"""Build an image, push it to a registry, pull it elsewhere and run it. Needs no network."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pycontainer as pc


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "src")
        source.mkdir()
        (source / "hello.py").write_text("import sys; print('Hello,', sys.argv[1])\n")

        with (
            pc.Store.open(Path(place, "here")) as here,
            pc.Store.open(Path(place, "there")) as there,
        ):
            base = pc.Image.from_interpreter(store=here)
            image = (
                pc.Builder(base, context=place)
                .copy("src", "/app")
                .entrypoint(["python", "/app/hello.py"])
                .build(tag="hello:1", store=here)
            )
            with (
                pc.Registry.serve(Path(place, "registry")) as server,
                pc.Registry(server.host) as registry,
            ):
                registry.push(image, "team/hello:1")
                pulled = registry.pull("team/hello:1", store=there)
            print(pc.run(pulled, ["world"], store=there, check=True).text, end="")


if __name__ == "__main__":
    main()
