"""What a whole process shares: a test that leaves it changed changes the tests after it.

Embeddings of one thread and of two differ in the last bits, so such a change shows far from its
cause, and in one order of the tests only. Libraries that are not loaded are not looked at.
"""

import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import threadpoolctl

WITH_BLAS = ("numpy", "scipy.linalg", "faiss")
OF_PYTEST = {"PYTEST_CURRENT_TEST"}
OF_LIBRARIES = ("RAY_", "TORCHINDUCTOR_", "LD_LIBRARY_PATH", "KMP_")  # set at imports
STATUS = Path("/proc/self/status")


def process_state() -> dict[str, Any]:
    """Return the settings that all tests of this process share, by name."""
    state: dict[str, Any] = {
        "the working directory": str(Path.cwd()),
        "the environment": {
            name: value
            for name, value in os.environ.items()
            if name not in OF_PYTEST and not name.startswith(OF_LIBRARIES)
        },
    }
    if hasattr(os, "sched_getaffinity"):
        state["the affinity"] = sorted(os.sched_getaffinity(0))
    if STATUS.exists():  # os.umask could only be read by setting it
        state["the umask"] = STATUS.read_text().partition("Umask:")[2].split()[0]
    loaded = tuple(name for name in WITH_BLAS if name in sys.modules)
    state |= {f"threads of {name}": count() for name, count in _blas_threads(loaded).items()}
    if faiss := sys.modules.get("faiss"):
        state["faiss.omp_get_max_threads()"] = faiss.omp_get_max_threads()
    if torch := sys.modules.get("torch"):
        state |= {
            "torch.get_num_threads()": torch.get_num_threads(),
            "torch.get_default_dtype()": torch.get_default_dtype(),
            "torch.is_grad_enabled()": torch.is_grad_enabled(),
            "torch.get_float32_matmul_precision()": torch.get_float32_matmul_precision(),
            "torch.backends.cudnn.benchmark": torch.backends.cudnn.benchmark,
        }
    return state


@lru_cache(maxsize=1)
def _blas_threads(loaded: tuple[str, ...]) -> dict[str, Callable[[], int]]:
    """Return what asks each BLAS for its threads; they are looked up once a library is loaded."""
    found = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    return {Path(library.filepath).name: library.get_num_threads for library in found}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return a line for each setting of both states that differs."""
    lines = []
    for name in before.keys() & after.keys():
        old, new = before[name], after[name]
        if isinstance(old, dict):
            old, new = dict(old.items() - new.items()), dict(new.items() - old.items())
        if old != new:
            lines.append(f"{name}: {old} before, {new} after")
    return sorted(lines)


def restore_threads(state: dict[str, Any]) -> None:
    """Give torch and faiss their threads back, so that one test is blamed and not all after it."""
    if (torch := sys.modules.get("torch")) and "torch.get_num_threads()" in state:
        torch.set_num_threads(state["torch.get_num_threads()"])
    if (faiss := sys.modules.get("faiss")) and "faiss.omp_get_max_threads()" in state:
        faiss.omp_set_num_threads(state["faiss.omp_get_max_threads()"])
