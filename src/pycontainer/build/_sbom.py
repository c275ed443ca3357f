"""What is in an image, as an SPDX document: the packages that its files themselves tell of."""

from __future__ import annotations

import email.parser
import re
from typing import TYPE_CHECKING, Final

from attrs import frozen

from pycontainer.oci import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pycontainer.snapshots import TreeView

__all__ = ["Package", "packages_of", "spdx"]

_DPKG: Final = "/var/lib/dpkg/status"
_DPKG_PARTS: Final = "/var/lib/dpkg/status.d"  # of images without dpkg, a file for each package
_APK: Final = "/lib/apk/db/installed"
_SITE: Final = re.compile(
    r"/(?:site|dist)-packages/[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO)"
)
_SITES: Final = ("/usr/lib", "/usr/local/lib", "/opt", "/app", "/venv", "/root")
_LARGEST: Final = 64 << 20
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.-]+")


@frozen(order=True)
class Package:
    """A package that an image has.

    Attributes:
        kind: Of which sort, as package URLs have it: ``deb``, ``apk``, ``pypi``.
        name: Its name.
        version: Its version.
        license: What its metadata says, if that is an SPDX expression or not; empty if nothing.
        vendor: The distribution, for those of one.
    """

    kind: str
    name: str
    version: str
    license: str = ""
    vendor: str = ""

    @property
    def url(self) -> str:
        """As a package URL (purl-spec)."""
        space = f"{self.vendor}/" if self.vendor else ""
        return f"pkg:{self.kind}/{space}{self.name}@{self.version}"


def packages_of(tree: TreeView) -> tuple[Package, ...]:
    """The packages that databases of dpkg and apk, and Python's metadata, in an image tell of."""
    vendor = _distribution(tree)
    found = {*_debian(tree, vendor or "debian"), *_alpine(tree, vendor or "alpine"), *_python(tree)}
    return tuple(sorted(found))


def spdx(name: str, digest: Digest, packages: tuple[Package, ...], created: str) -> object:
    """The document (SPDX 2.3, JSON); the same image gives the same.

    Args:
        name: What the image is called.
        digest: Of its manifest.
        packages: What is in it.
        created: The time that the document bears (RFC 3339).
    """
    root = "SPDXRef-Image"
    listed = [
        {
            "SPDXID": root,
            "name": name,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "checksums": [{"algorithm": "SHA256", "checksumValue": digest.hex}],
            "primaryPackagePurpose": "CONTAINER",
        }
    ]
    relationships = [_related("SPDXRef-DOCUMENT", "DESCRIBES", root)]
    for package in packages:
        identity = f"SPDXRef-Package-{_UNSAFE.sub('-', f'{package.kind}-{package.name}')}"
        identity += f"-{Digest.of(package.url.encode()).hex[:8]}"
        listed.append(_described(package, identity))
        relationships.append(_related(root, "CONTAINS", identity))
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://spdx.org/spdxdocs/pycontainer-{digest.hex}",
        "creationInfo": {"created": created, "creators": ["Tool: pycontainer"]},
        "packages": listed,
        "relationships": relationships,
    }


def _described(package: Package, identity: str) -> dict[str, object]:
    reference = {
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": package.url,
    }
    return {
        "SPDXID": identity,
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        **({"licenseComments": package.license} if package.license else {}),
        "externalRefs": [reference],
    }


def _related(one: str, how: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}


# --- finding -------------------------------------------------------------------------------------


def _text(tree: TreeView, path: str) -> str:
    try:
        return tree.read_bytes(path, limit=_LARGEST).decode("utf-8", "replace")
    except OSError:
        return ""


def _distribution(tree: TreeView) -> str:
    match = re.search(r'^ID="?([a-z0-9._-]+)"?$', _text(tree, "/etc/os-release"), re.MULTILINE)
    return match[1] if match else ""


def _debian(tree: TreeView, vendor: str) -> Iterator[Package]:
    texts = [_text(tree, _DPKG)]
    parts = tree.lookup(_DPKG_PARTS)
    if parts is not None and parts.is_dir:
        texts += [_text(tree, node.path) for node in tree.iterdir(_DPKG_PARTS) if node.is_file]
    for text in texts:
        for paragraph in text.split("\n\n"):
            fields = _fields(paragraph, ": ")
            state = fields.get("Status", "install ok installed")
            if state.endswith(" installed") and {"Package", "Version"} <= fields.keys():
                yield Package("deb", fields["Package"], fields["Version"], vendor=vendor)


def _alpine(tree: TreeView, vendor: str) -> Iterator[Package]:
    for paragraph in _text(tree, _APK).split("\n\n"):
        fields = _fields(paragraph, ":")
        if {"P", "V"} <= fields.keys():
            yield Package("apk", fields["P"], fields["V"], fields.get("L", ""), vendor)


def _python(tree: TreeView) -> Iterator[Package]:
    for top in _SITES:
        node = tree.lookup(top)
        if node is None or not node.is_dir or node.path != top:
            continue
        for found in tree.walk(top):
            if found.is_file and _SITE.search(found.path):
                message = email.parser.HeaderParser().parsestr(_text(tree, found.path))
                if message["Name"] and message["Version"]:
                    name = re.sub(r"[-_.]+", "-", message["Name"]).lower()
                    license_ = message["License-Expression"] or message["License"] or ""
                    yield Package("pypi", name, message["Version"], license_.partition("\n")[0])


def _fields(paragraph: str, colon: str) -> Mapping[str, str]:
    lines = [line for line in paragraph.splitlines() if colon in line and line[:1] != " "]
    return {name: value.strip() for name, _, value in (line.partition(colon) for line in lines)}
