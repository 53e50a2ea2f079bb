"""Where a conversion ran: system, processor, memory, accelerator, Python, threads, seeds, and the packages it used.

No framework is imported for it: what PyTorch knows is asked only where the caller has already imported it. Of the process
environment nothing but the few variables listed here is read, because the rest of it holds secrets; host and account names
are left out for the same reason.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mlflow_aifsm.facts import Fact, Json, captured, not_recorded

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "CUBLAS_WORKSPACE_CONFIG")
"""The only variables read: threads (they set the order of sums), seed and workspace decide whether a second run is equal."""
VECTOR_FLAGS = ("avx", "amx", "fma", "neon", "asimd", "sve", "i8mm", "bf16")
"""Prefixes of the processor flags that choose the kernels of a runtime."""
TRIED = {
    "torch": ("2.9", "2.13"),
    "mlflow": ("3.9", "3.18"),
    "onnx": ("1.19", "1.23"),
    "onnxruntime": ("1.23", "1.31"),
    "nncf": ("3.0", "3.4"),
}
"""First and last minor version of each framework that this package was tried with."""

_SHOWN_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "neon", "asimd", "asimddp", "i8mm", "sve")
_GPU_TIMEOUT = 3.0


def facts() -> list[Fact]:
    """The fact ``environment.host``: one readable line, and everything of :func:`host` as its data."""
    data = host()
    short = f"{data['system']} {data['machine']}, Python {data['python']}"
    return [captured("environment.host", _line(data), data, source="host", short=short)]


def host() -> dict[str, Json]:
    """All that is known about the place: JSON, memory in bytes, no host name, no account name.

    Values that could not be read are None or empty; nothing is guessed.
    """
    processor = _processor()
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "distribution": _distribution(),
        "machine": platform.machine(),
        "processor": processor["name"],
        "vector_flags": processor["flags"],
        "cores": _cores(),
        "memory": psutil.virtual_memory().total,
        "accelerator": _accelerator(),
        "container": _container(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "torch": _torch_state(),
    }


def packages(roots: Iterable[str]) -> dict[str, str]:
    """Versions of the installed ``roots`` and of everything they depend on in this environment.

    Args:
        roots: Requirements such as ``torch`` or ``mlflow[extras]``; one that is not installed is left out.

    Returns:
        Normalized name to version, sorted by name. Extras count only where a requirement asks for them.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        installed = None if (name, extras) in seen else _find(name)
        seen.add((name, extras))
        if installed is not None:
            found[name] = installed[0]
            waiting += [need for need in installed[1] if _applies(need, extras)]
    return dict(sorted(found.items()))


def package_text(packages: Mapping[str, str], first: Iterable[str]) -> str:
    """The cell's text: the packages ``first`` with versions, then how many more there are and where they are listed."""
    leading = [name for name in map(_normalized, first) if name in packages]
    others = len(packages) - len(set(leading))
    text = ", ".join(f"{name} {packages[name]}" for name in leading)
    word = "dependency" if others == 1 else "dependencies"
    return f"{text} and {others} {word} (see packages.txt)" if others else text


def package_fact(name: str, roots: Iterable[str]) -> Fact:
    """The fact ``name`` (``converter.packages`` for instance): ``roots`` and their dependencies, versions as data."""
    wanted = tuple(roots)
    found = packages(wanted)
    if not found:
        return not_recorded(name, f"none of {', '.join(wanted)} is installed here", "convert where they are installed")
    short = ", ".join(f"{root} {found[root]}" for root in map(_normalized, wanted) if root in found)
    return captured(name, package_text(found, wanted), found, source="installed distributions", short=short)


def tried_range_notes(packages: Mapping[str, str]) -> list[str]:
    """One line for each framework among ``packages`` whose version this package was not tried with."""
    return [
        f"{name} {packages[name]} is outside the range that was tried ({first} to {last})"
        for name, (first, last) in TRIED.items()
        if name in packages and not Version(first).release <= _minor(packages[name]) <= Version(last).release
    ]


def _minor(version: str) -> tuple[int, ...]:
    try:
        return Version(version).release[:2]
    except InvalidVersion:
        return ()


def _normalized(requirement: str) -> str:
    return canonicalize_name(Requirement(requirement).name)


def _find(name: str) -> tuple[str, tuple[Requirement, ...]] | None:
    try:
        return _installed(name)
    except metadata.PackageNotFoundError:
        return None


@cache
def _installed(name: str) -> tuple[str, tuple[Requirement, ...]]:
    distribution = metadata.distribution(name)
    needs = (_requirement(line) for line in distribution.requires or ())
    return distribution.version, tuple(need for need in needs if need is not None)


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _applies(need: Requirement, extras: Iterable[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _line(data: Mapping[str, Json]) -> str:
    system = f"{data['system']} {data['kernel']}" + (f" ({data['distribution']})" if data["distribution"] else "")
    cores = data["cores"]["usable"]
    shown = [f"{cores} core{'' if cores == 1 else 's'}", *(flag for flag in _SHOWN_FLAGS if flag in data["vector_flags"])]
    parts = (
        system,
        f"{data['container']} container" if data["container"] else "",
        f"{data['processor'] or data['machine']} ({', '.join(shown)})",
        f"{data['memory'] / 2**30:.1f} GiB memory",
        str(data["accelerator"]["text"]),
        f"{data['implementation'].replace('CPython', 'Python')} {data['python']}",
        *_torch_words(data["torch"]),
        *(f"{name}={value}" for name, value in data["variables"].items()),
    )
    return ", ".join(part for part in parts if part)


def _torch_words(state: Mapping[str, Json] | None) -> list[str]:
    if state is None:
        return []
    threads = f"{state['threads']} thread{'' if state['threads'] == 1 else 's'}"
    return [
        threads,
        f"PyTorch seed {state['seed']}",
        *(["deterministic algorithms"] if state["deterministic_algorithms"] else []),
    ]


def _torch_state() -> dict[str, Json] | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    return {
        "threads": torch.get_num_threads(),
        "seed": torch.initial_seed(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cuda_of_the_build": torch.version.cuda,
    }


def _distribution() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return ""
    return f"{release.get('NAME', '')} {release.get('VERSION_ID', '')}".strip()


def _processor() -> dict[str, Json]:
    rows = [line.partition(":") for line in _read("/proc/cpuinfo").splitlines()]
    first = {key.strip().lower(): value.strip() for key, _, value in reversed(rows)}
    flags = (first.get("flags") or first.get("features") or "").split()
    wanted = sorted({flag for flag in flags if flag.startswith(VECTOR_FLAGS)})
    return {"name": first.get("model name") or platform.processor(), "flags": wanted}


def _cores() -> dict[str, Json]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"logical": os.cpu_count(), "physical": psutil.cpu_count(logical=False), "usable": usable}


def _container() -> str:
    for name, path in (("Docker", "/.dockerenv"), ("Podman", "/run/.containerenv")):
        if Path(path).exists():
            return name
    groups = _read("/proc/1/cgroup")
    return next((name for name in ("kubepods", "docker", "containerd", "lxc") if name in groups), "")


def _accelerator() -> dict[str, Json]:
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_TIMEOUT, check=True)
    except FileNotFoundError:
        return {"text": "no NVIDIA GPU", "devices": []}
    except (OSError, subprocess.SubprocessError) as error:
        return {"text": f"GPU not readable (nvidia-smi: {type(error).__name__})", "devices": None}
    devices = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return {"text": "; ".join(devices) or "no NVIDIA GPU", "devices": devices}


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""
