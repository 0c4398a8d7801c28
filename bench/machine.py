"""What the numbers were measured on. Nothing here imports what it reports the version of."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

#: Seconds for git to answer; beyond it the commit is left out of the report.
GIT_TIMEOUT_S: Final = 2.0
_CGROUP: Final = Path("/sys/fs/cgroup")
_REPOSITORY: Final = Path(__file__).resolve().parent.parent


def describe() -> dict[str, str | int]:
    """Processor, cores, memory, kernel, versions: `machine{}` of summary.json."""
    facts: dict[str, str | int] = {
        "cpu": cpu_model(Path("/proc/cpuinfo")),
        "cores": core_count(),
        "memory_bytes": memory_bytes(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numba": version_of("numba"),
        "llvmlite": version_of("llvmlite"),
    }
    commit = git_commit(_REPOSITORY)
    if commit:
        facts["commit"] = commit
    return facts


def core_count() -> int:
    """Cores that this process may run on, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def memory_bytes(cgroup: Path = _CGROUP) -> int:
    """Main memory of the machine, or of the container if that has less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _text(cgroup / "memory.max").strip()
    return min(total, int(limit)) if limit.isdecimal() else total


def memory_available_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> int:
    """Memory that can be used without swapping; half of the machine's where it is not known."""
    total = memory_bytes(cgroup)
    used = _text(cgroup / "memory.current").strip()
    limited = _text(cgroup / "memory.max").strip().isdecimal()
    left = total - int(used) if limited and used.isdecimal() else total
    value = _field(meminfo, "MemAvailable")
    return max(0, min(left, int(value.split()[0]) << 10 if value else total // 2))


def cpu_model(cpuinfo: Path) -> str:
    """The processor's own name for itself, or its architecture where it has none."""
    return _field(cpuinfo, "model name") or platform.machine()


def _field(file: Path, wanted: str) -> str:
    """The first value of `wanted` in a file of "name: value" lines, or ""."""
    for line in _text(file).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == wanted and value.strip():
            return " ".join(value.split())
    return ""


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def version_of(distribution: str) -> str:
    """Installed version, read from the package's metadata, or "not installed"."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def git_commit(repository: Path) -> str:
    """Abbreviated commit, with "-dirty" if files differ from it; "" outside a checkout.

    An installed package must not report the commit of whatever repository its virtual
    environment happens to lie in, hence the look for `.git` beside it.
    """
    if not (repository / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(
            command,
            cwd=repository,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
