"""What is free is what the machine has left, or the tightest limit that this process runs under."""

from pathlib import Path

import pytest

from pytest_q3omni.engines.memory import available_bytes, gib

pytestmark = pytest.mark.tiny

MACHINE = 64 << 30
NO_LIMIT_V1 = 9223372036854771712


class System:
    """A fake /proc and /sys/fs/cgroup."""

    def __init__(self, home: Path) -> None:
        self.proc, self.cgroups = home / "proc", home / "cgroup"
        self.write(self.proc / "meminfo", f"MemTotal: {MACHINE // 512} kB\nMemAvailable:   {MACHINE // 1024} kB\n")

    def write(self, file: Path, text: object) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def belongs(self, *lines: str) -> None:
        self.write(self.proc / "self" / "cgroup", "\n".join(lines))

    def v2(self, group: str, limit: object, used: int, stat: str = "") -> None:
        for name, value in (("max", limit), ("current", used), ("stat", stat)):
            self.write(self.cgroups / group / f"memory.{name}", value)

    def v1(self, group: str, limit: int, used: int, stat: str = "") -> None:
        for name, value in (("limit_in_bytes", limit), ("usage_in_bytes", used), ("stat", stat)):
            self.write(self.cgroups / "memory" / group / f"memory.{name}", value)

    @property
    def free(self) -> int | None:
        return available_bytes("cpu", proc=self.proc, cgroups=self.cgroups)


@pytest.fixture
def system(tmp_path):
    return System(tmp_path)


def test_without_control_groups_it_is_what_the_machine_has(system):
    assert system.free == MACHINE
    system.belongs("0::/")
    assert system.free == MACHINE


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [("max", 5000, MACHINE), (9000, 5000, 4000), (9000, 9500, 0), (2 * MACHINE, 0, MACHINE), ("nonsense", 0, MACHINE)],
)
def test_the_limit_of_a_container_counts_v2(system, limit, used, free):
    system.belongs("0::/")
    system.v2("", limit, used)
    assert system.free == free


@pytest.mark.parametrize(("limit", "used", "free"), [(NO_LIMIT_V1, 5000, MACHINE), (9000, 5000, 4000), (9000, 9500, 0)])
def test_the_limit_of_a_container_counts_v1(system, limit, used, free):
    system.belongs("12:cpu,cpuacct:/", "7:memory:/docker/4711", "1:name=systemd:/docker/4711", "0::/docker/4711")
    system.v1("", limit, used)  # the container's own group is mounted as the root
    assert system.free == free


def test_controllers_that_only_sound_like_memory_do_not_count(system):
    system.belongs("3:memory_like:/", "4:cpu:/")
    system.v1("", 9000, 5000)
    assert system.free == MACHINE


@pytest.mark.parametrize("tightest", ["", "user.slice", "user.slice/run.scope"])
def test_every_group_above_counts_v2(system, tightest):
    system.belongs("0::/user.slice/run.scope")
    for group in ("", "user.slice", "user.slice/run.scope"):
        system.v2(group, 9000 if group == tightest else 20_000, 1000)
    system.v2("other.slice", 10, 0)
    assert system.free == 8000


@pytest.mark.parametrize("tightest", ["", "docker", "docker/4711"])
def test_every_group_above_counts_v1(system, tightest):
    system.belongs("7:cpu,memory:/docker/4711")
    for group in ("", "docker", "docker/4711"):
        system.v1(group, 9000 if group == tightest else 20_000, 1000)
    assert system.free == 8000


def test_cached_files_make_room(system):
    stat = "anon 3000\nfile 5000\ninactive_anon 70\nactive_anon 80\ninactive_file 4000\nactive_file 900\nshmem 100"
    system.belongs("0::/")
    system.v2("", 9000, 8000, stat)
    assert system.free == 9000 - (8000 - 4900)
    system.v2("", 9000, 4000, stat)
    assert system.free == 9000, "the files are read one after another: the numbers need not fit together"


def test_a_limit_without_its_use_is_none(system):
    system.belongs("0::/")
    system.write(system.cgroups / "memory.max", 9000)
    assert system.free == MACHINE


def test_without_meminfo_the_limit_counts_alone(system, monkeypatch):
    def unknown(name):
        raise ValueError(name)

    (system.proc / "meminfo").unlink()
    monkeypatch.setattr("os.sysconf", unknown)
    assert system.free is None
    system.belongs("0::/")
    system.v2("", 9000, 5000)
    assert system.free == 4000


def test_this_machine_answers():
    assert available_bytes("cpu") > 0


def test_sizes_are_readable():
    assert (gib(66 << 30), gib(3 << 20)) == ("66.0 GiB", "3.0 MiB")
