"""Containers of root with users of their own: their root is nobody on the machine."""

from __future__ import annotations

import os
import socket
import struct
import tarfile  # noqa: TID251  (as others read it)
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pycontainer as pc
from busybox import busybox_image
from own_network import own_network
from pycontainer import errors
from pycontainer._linux import mount as linux_mount
from pycontainer.containers import _ranges
from pycontainer.content import Store
from pycontainer.images import Image

pytestmark = pytest.mark.root

FIRST = 1_000_000
PRIVATE = pc.Namespaces(user="private")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("users") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


@pytest.fixture(autouse=True)
def subordinate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the machine has set aside: room for eight containers."""
    tmp_path.chmod(0o755)
    path = tmp_path / "subid"
    path.write_text(f"somebody:100000:65536\nroot:{FIRST}:{8 * 65536}\n")
    monkeypatch.setattr(_ranges, "_FILES", (path, path))
    return path


def sh(image: Image, script: str, **options: object) -> pc.Completed:
    options.setdefault("namespaces", PRIVATE)
    return pc.run(image, ["sh", "-c", script], store=image.store, timeout=60, **options)  # type: ignore[arg-type]


def started(image: Image, script: str = "sleep 600", **options: object) -> pc.Container:
    options.setdefault("namespaces", PRIVATE)
    return pc.Container.start(image, ["sh", "-c", script], store=image.store, **options)  # type: ignore[arg-type]


def put_tmpfs(place: Path) -> None:
    tree = linux_mount.filesystem("tmpfs")
    linux_mount.attach(tree, str(place))
    os.close(tree)


def status(pid: int | None, name: str) -> list[str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(line for line in text.splitlines() if line.startswith(name + ":")).split()[1:]


# --- who they are ----------------------------------------------------------------------------


def test_root_inside_is_nobody_outside(image: Image) -> None:
    with started(image) as container:
        assert container.exec(["id", "-u"]).stdout == b"0\n"
        for name in ("Uid", "Gid"):
            ids = {int(word) for word in status(container.pid, name)}
            assert len(ids) == 1
            assert min(ids) >= FIRST
        # In none of the namespaces of which the machine's root is.
        for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
            assert os.readlink(f"/proc/{container.pid}/ns/{kind}") != os.readlink(
                f"/proc/self/ns/{kind}"
            )
        outside = container.exec(["cat", "/proc/self/uid_map"]).stdout.split()
        assert outside == [
            b"0",
            str(min(int(w) for w in status(container.pid, "Uid"))).encode(),
            b"65536",
        ]


def test_root_inside_has_no_rights_outside(image: Image, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the machine's root")
    secret.chmod(0o600)
    open_to_all = tmp_path / "drop"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    script = """
    cat /host/secret && echo READ
    chown 0 /host/secret && echo OWNED
    echo x > /host/secret && echo WRITTEN
    cp /bin/busybox /host/drop/su && chmod 4755 /host/drop/su
    mknod /tmp/disk b 254 0 && echo NODE
    echo 1 > /proc/sysrq-trigger && echo SYSRQ
    mount -o remount,rw /proc/sys 2>/dev/null && echo REMOUNTED
    echo x > /proc/sys/kernel/core_pattern && echo CORE
    hostname changed && echo RENAMED
    true
    """
    mounts = [pc.Mount.bind(tmp_path, "/host")]
    result = sh(
        image, script, mounts=mounts, security=pc.Security(cap_add=["ALL"], seccomp="unconfined")
    )
    # It is the root of its own namespaces, and of nothing else.
    assert set(result.text.split()) <= {"RENAMED", "REMOUNTED"}, result.text
    made = (open_to_all / "su").stat()
    assert made.st_uid >= FIRST, "a set-uid program of the machine's root"
    assert secret.read_text() == "of the machine's root"


def test_users_of_the_image_are_its_own(image: Image) -> None:
    with started(image, user="1234:5678") as container:
        assert container.exec(["id", "-u"]).stdout == b"1234\n"
        uid = int(status(container.pid, "Uid")[0])
        assert uid == int(container.exec(["cat", "/proc/self/uid_map"]).stdout.split()[1]) + 1234
        assert container.exec(["id", "-g"], user="0").stdout == b"0\n"
    with pytest.raises(errors.SpecError, match="70000"):
        sh(image, "true", user="70000")


def test_containers_do_not_have_the_same_users(image: Image) -> None:
    with started(image) as one, started(image) as two:
        first, second = (int(status(c.pid, "Uid")[0]) for c in (one, two))
        assert abs(first - second) >= 65536
    with started(image) as again:  # what was given back is given again
        assert int(status(again.pid, "Uid")[0]) in (first, second)


def test_containers_started_at_once_do_not_share_users(image: Image) -> None:
    with ThreadPoolExecutor(4) as pool:
        containers = list(pool.map(lambda _: started(image), range(8)))
    try:
        assert len({status(c.pid, "Uid")[0] for c in containers}) == 8
        with pytest.raises(errors.UnsupportedFeature, match="all 8 ranges") as caught:
            sh(image, "true")
        assert "set more aside" in str(caught.value.remedy)
    finally:
        for container in containers:
            container.close()
    assert sh(image, "id -u").text == "0\n"


def test_one_range_is_shared_by_all(image: Image, subordinate: Path) -> None:
    subordinate.write_text(f"root:{FIRST}:65536\n")
    with started(image) as one, started(image) as two:
        assert status(one.pid, "Uid") == status(two.pid, "Uid")


def test_without_ids_set_aside_the_error_says_what_to_write(
    image: Image, subordinate: Path
) -> None:
    subordinate.write_text("somebody:100000:65536\n")
    with pytest.raises(errors.UnsupportedFeature, match="set no 65536 ids aside") as caught:
        sh(image, "true")
    assert "echo pycontainer:524288:16777216" in str(caught.value.remedy)
    subordinate.write_text("somebody:100000:65536\npycontainer:524288:16777216\n")
    assert sh(image, "cat /proc/self/uid_map").text.split() == ["0", "524288", "65536"]


def test_the_users_of_another_container(image: Image) -> None:
    with started(image, name="owner", hostname="one") as owner:
        namespaces = pc.Namespaces(
            user="container:owner",
            ipc="container:owner",
            pid="container:owner",
            uts="container:owner",
        )
        with started(image, namespaces=namespaces, network="container:owner") as second:
            for kind in ("user", "ipc", "pid", "uts", "net"):
                assert os.readlink(f"/proc/{owner.pid}/ns/{kind}") == os.readlink(
                    f"/proc/{second.pid}/ns/{kind}"
                )
            assert os.readlink(f"/proc/{owner.pid}/ns/mnt") != os.readlink(
                f"/proc/{second.pid}/ns/mnt"
            )
            assert second.exec(
                ["sh", "-c", "id -u; hostname; touch /mine; ls -ln /mine"]
            ).stdout.split()[:2] == [b"0", b"one"]
            assert status(owner.pid, "Uid") == status(second.pid, "Uid")
            assert second.fs.stat("/mine").st_uid == 0


def test_users_of_the_host(image: Image) -> None:
    with started(image, namespaces=pc.Namespaces(user="host")) as container:
        assert os.readlink(f"/proc/{container.pid}/ns/user") == os.readlink("/proc/self/ns/user")
    with (
        started(image, name="plain", namespaces=None),
        started(image, namespaces=pc.Namespaces(user="container:plain")) as container,
    ):
        assert os.readlink(f"/proc/{container.pid}/ns/user") == os.readlink("/proc/self/ns/user")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"namespaces": pc.Namespaces(user="mine")}, "no mode of a namespace"),
        ({"namespaces": pc.Namespaces(user="private", pid="host")}, "pid='host'"),
        ({"namespaces": pc.Namespaces(user="private", ipc="host")}, "ipc='host'"),
        ({"namespaces": pc.Namespaces(user="private", pid="container:first")}, "cannot share pid"),
        ({"network": "container:first"}, "cannot share network"),
        ({"security": pc.Security(privileged=True)}, "privileged"),
    ],
)
def test_what_does_not_go_with_users_of_its_own(
    image: Image, options: dict[str, object], message: str
) -> None:
    with started(image, name="first", namespaces=None), pytest.raises(errors.Error, match=message):
        sh(image, "true", **options)


# --- what works as ever ----------------------------------------------------------------------


def test_streams_terminal_and_exit_code(image: Image) -> None:
    script = "cat; echo out > /dev/stdout; echo err > /dev/stderr; exit 7"
    for user in (None, "33"):
        result = sh(image, script, user=user, input=b"in\n")
        assert (result.stdout, result.stderr, result.exit_code) == (b"in\nout\n", b"err\n", 7)
    with started(image, "echo up > /dev/stderr; exec sleep 600") as container:
        assert str(next(container.logs(follow=True))) == "up"
        typed = container.exec(["sh", "-c", "tty; ls -ln /dev/pts/0; echo x > /dev/tty"], tty=True)
        assert typed.stdout.startswith(b"/dev/pts/0\r\n")
        assert b" 0        5  " in typed.stdout
        assert container.exec(["sh", "-c", "echo e > /dev/stderr; exit 5"]).exit_code == 5


def test_limits_are_raised_and_set(image: Image) -> None:
    result = sh(
        image,
        "ulimit -n; cat /proc/self/oom_score_adj; cat /proc/self/limits | grep 'open files'",
        ulimits={"nofile": (100, 200)},
        limits=pc.Limits(oom_score_adj=500),
        memory=64 << 20,
        pids=1 << 10,
    )
    assert result.text.split()[:2] == ["100", "500"]
    with started(image, memory=64 << 20, pids=100) as container:
        assert 0 < container.stats().memory < 64 << 20
        container.update(memory=96 << 20)
        container.pause()
        container.unpause()
        assert container.exec(["id", "-u"]).stdout == b"0\n"


def test_files_are_the_containers_running_or_not(image: Image, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_text("content")
    os.chown(source / "sub/file", 12, 34)
    with pc.Container.create(
        image, ["sleep", "600"], store=image.store, namespaces=PRIVATE
    ) as container:
        container.fs.write_text("/before", "b")
        container.start()
        container.fs.write_text("/within", "w")
        container.fs.mkdir("/made/deep", parents=True)
        container.fs.copy_in(source, "/plain")
        container.fs.copy_in(source, "/kept", archive=True)
        listing = "stat -c '%u:%g' /before /within /made/deep /plain/sub/file /kept/sub/file"
        expected = ["0:0", "0:0", "0:0", "0:0", "12:34"]
        assert container.exec(["sh", "-c", listing]).stdout.decode().split() == expected
        container.exec(["sh", "-c", "echo more >> /within; chown 5:6 /within"], check=True)
        assert container.fs.read_text("/within") == "wmore\n"
        found = container.fs.stat("/within")
        assert (found.st_uid, found.st_gid, found.st_size) == (5, 6, 6)
        assert found.st_mtime_ns > 0
        container.fs.copy_out("/within", tmp_path / "out", archive=True)
        assert (tmp_path / "out").stat().st_uid == 5
        container.fs.copy_out("/within", tmp_path / "mine")
        assert (tmp_path / "mine").stat().st_uid == os.geteuid()
        assert os.stat(tmp_path / "mine").st_uid == 0
        container.fs.remove("/made", recursive=True)
        container.stop(1)
        assert container.fs.stat("/within").st_uid == 5
        container.fs.write_text("/after", "a")
        container.start()
        assert container.exec(["sh", "-c", "stat -c '%u' /after /within"]).stdout.split() == [
            b"0",
            b"5",
        ]
        # Whoever writes from here is the program's user again.
        (tmp_path / "again").touch()
        assert (tmp_path / "again").stat().st_uid == 0


def test_what_it_changes_is_committed_with_its_owners(image: Image, tmp_path: Path) -> None:
    script = "echo x > /file; chown 7:8 /file; rm /etc/passwd; mkdir /d; chown 3 /d; exec sleep 600"
    with started(image, script) as container:
        container.exec(["sh", "-c", "until [ -d /d ]; do sleep 0.01; done"], timeout=10)
        changes = {(c.path, c.kind) for c in container.diff()}
        assert {("/file", "added"), ("/d", "added")} <= changes
        image_of_it = container.commit(tag="committed:1")
        container.export(tmp_path / "all.tar")
    plain = sh(image_of_it, "stat -c '%u:%g' /file /d", namespaces=None)
    assert plain.text.split() == ["7:8", "3:0"]
    assert sh(image_of_it, "stat -c '%u:%g' /file /d").text.split() == ["7:8", "3:0"]
    with tarfile.open(tmp_path / "all.tar") as tar:
        assert tar.getmember("file").uid == 7


def test_volumes_are_shared_with_containers_that_have_other_users(image: Image) -> None:
    volume = [pc.Mount.volume("data", "/data")]
    try:
        assert sh(image, "echo one > /data/one; chown 9 /data/one", mounts=volume).exit_code == 0
        assert sh(image, "stat -c %u /data/one", mounts=volume, namespaces=None).text == "9\n"
        sh(image, "echo two > /data/two", mounts=volume, namespaces=None)
        with started(image, mounts=volume) as container:
            result = container.exec(["sh", "-c", "echo 2 >> /data/two; stat -c %u /data/two"])
            assert result.stdout == b"0\n"
            container.fs.write_text("/data/three", "3")
            assert container.exec(["stat", "-c", "%u", "/data/three"]).stdout == b"0\n"
        assert (
            pc.Volume.create("data", store=image.store, exist_ok=True).path / "three"
        ).stat().st_uid == 0
    finally:
        pc.Volume.create("data", store=image.store, exist_ok=True).delete()


def test_binds_have_the_machines_owners_unless_asked(image: Image, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.chown(tmp_path / "file", 1000, 1000)
    plain = [pc.Mount.bind(tmp_path, "/host")]
    assert sh(image, "stat -c %u /host/file", mounts=plain).text == "65534\n"
    ids = [pc.IdRange(on_disk=1000, seen=0)]
    mapped = [pc.Mount.bind(tmp_path, "/host", ids=ids)]
    os.chown(tmp_path, 1000, 1000)  # where nobody known owns the directory, nobody may write
    with started(
        image, "stat -c %u /host/file; touch /host/made; exec sleep 600", mounts=mapped
    ) as container:
        assert str(next(container.logs(follow=True))) == "0"
        container.exec(["sh", "-c", "until [ -e /host/made ]; do sleep 0.01; done"], timeout=10)
        assert (tmp_path / "made").stat().st_uid == 1000


def test_mounts_come_in_from_the_host_but_do_not_get_out(image: Image, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    put_tmpfs(place)
    try:
        linux_mount.mount("none", str(place), None, linux_mount.MS_SHARED)
        (place / "later").mkdir()
        with pytest.raises(errors.UnsupportedFeature, match="passes to the host"):
            sh(image, "true", mounts=[pc.Mount.bind(place, "/host", propagation="rshared")])
        slave = [pc.Mount.bind(place, "/host", propagation="rslave")]
        with started(image, mounts=slave) as container:
            put_tmpfs(place / "later")
            (place / "later/file").touch()
            assert container.exec(["ls", "/host/later"]).stdout == b"file\n"
            linux_mount.unmount(str(place / "later"))
    finally:
        linux_mount.unmount(str(place))


def test_file_capabilities_of_the_image_work(image: Image, tmp_path: Path) -> None:
    # CAP_NET_BIND_SERVICE, effective, for the root of whoever mounts it.
    value = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    with started(image, namespaces=None) as container:
        container.exec(["cp", "/bin/busybox", "/root/busybox"], check=True)
        root = f"/proc/{container.pid}/root"
        os.setxattr(f"{root}/root/busybox", "security.capability", value)
        able = container.commit()
    for namespaces in (None, PRIVATE):
        result = sh(
            able, "/root/busybox grep CapEff /proc/self/status", user="1000", namespaces=namespaces
        )
        assert int(result.text.split()[1], 16) == 1 << 10


# --- networks, policies, systems -------------------------------------------------------------


def test_networks_and_published_ports(image: Image) -> None:
    script = "echo hello > /index.html; exec httpd -f -p 80 -h /"
    with (
        own_network(),
        started(image, script, ports=[80], ready=pc.ready.port(80), timeout=30) as container,
    ):
        for connection in (
            socket.create_connection(container.address(80), 5),
            container.connect(80),
        ):
            with connection:
                connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
                assert connection.makefile().read().endswith("hello\n")
        answer = container.exec(["sh", "-c", "ip addr show eth0 && ip link set eth0 mtu 1400"])
        assert answer.exit_code in (0, 2)  # net_admin is not among its capabilities
        assert b"inet " in answer.stdout
    with started(image, network="host") as container:
        assert os.readlink(f"/proc/{container.pid}/ns/net") == os.readlink("/proc/self/ns/net")


def test_restarts_have_the_same_users(image: Image) -> None:
    with started(image, "cat /proc/self/uid_map; exit 1", restart="on-failure:2") as container:
        container.wait(60)
        lines = {tuple(str(line).split()) for line in container.logs()}
        assert len(lines) == 1
        assert len(list(container.logs())) == 3


def test_a_read_only_root_and_devices(image: Image) -> None:
    result = sh(
        image,
        "touch /x || echo refused; stat -c '%u %t:%T' /dev/zero; touch /tmp/x; "
        "head -c 3 /dev/mine | od -An -tx1",
        read_only=True,
        mounts=[pc.Mount.tmpfs("/tmp")],
        security=pc.Security(devices=[pc.Device("/dev/zero", "/dev/mine")]),
    )
    assert result.text.split() == ["refused", "0", "1:5", "00", "00", "00"]
    assert result.exit_code == 0


def test_health_checks(image: Image) -> None:
    check = pc.HealthCheck(["sh", "-c", "[ $(id -u) = 0 ]"], interval=0.05, timeout=5)
    with started(image, healthcheck=check, ready=pc.ready.health(), timeout=30) as container:
        assert container.health is not None
        assert container.health.status == "healthy"
