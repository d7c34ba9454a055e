"""Plans on disk. A plan is compiled code for one GPU and one builder: it is kept under a key of all that made it.

Beside NAME-KEY.plan lies NAME-KEY.plan.json with the key and the plan's SHA-256. What does not fit is refused with the
reason, before the runtime sees a byte of it. A sum is no signature: open only plans that you or your store made.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engines.models import store_dir, write_whole
from engines.runtime import EngineError

VERSION = 1
FOLDER = "plans"
BUILD_COMMAND = "python -m engines.build --backend tensorrt --weights WEIGHTS --precision {precision}"

#: Input name -> its smallest, usual and largest shape.
Profile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


class PlanError(EngineError):
    """A plan is missing, cut, or made for something else; the message ends with the command that mends it."""


@dataclass(frozen=True)
class PlanKey:
    """All that a plan depends on.

    model      SHA-256 of the model it was built from (weights and structure)
    builder    name and version: "tensorrt 10.16.0", "torch2trt 0.5.0 tensorrt 10.3.0"
    runtime    version that runs it, "10.16.0"; plans run in no other
    gpu        name and compute capability, "NVIDIA H100 80GB HBM3 9.0"
    precision  "fp32" or "fp16"
    profile    shapes it was built for
    """

    model: str
    builder: str
    runtime: str
    gpu: str
    precision: str
    profile: Profile

    def digest(self) -> str:
        """24 hex digits that change with every field."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def sha256(path: str | Path) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def plan_path(name: str, key: PlanKey, store: str | Path | None = None) -> Path:
    """Where the plan of that key lies, or would."""
    return store_dir(store) / FOLDER / f"{name}-{key.digest()}.plan"


def save(name: str, key: PlanKey, plan: bytes, store: str | Path | None = None) -> Path:
    """Writes plan and manifest, the manifest last, each in one move; returns the plan's path.

    Raises PlanError where it cannot.
    """
    path = plan_path(name, key, store)
    sums = {"sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)}
    manifest = {"version": VERSION, "name": name, "key": asdict(key), "plan": sums}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, plan)
        write_whole(_manifest_path(path), json.dumps(manifest, indent=1).encode())
    except OSError as e:
        raise PlanError(
            f"{path}: the plan cannot be written ({e.strerror}). Name another folder by WHMR_MODEL_DIR."
        ) from e
    return path


def annotate(path: Path, notes: Any) -> None:
    """Writes what else is to be said of a stored plan, such as its differences to fp32, into its manifest."""
    manifest = _read_manifest(path, "") | {"notes": notes}
    write_whole(_manifest_path(path), json.dumps(manifest, indent=1).encode())


def load(name: str, key: PlanKey, store: str | Path | None = None) -> bytes:
    """The plan of exactly that key from the store; raises PlanError where there is none that is whole."""
    path = plan_path(name, key, store)
    if not path.is_file():
        others = sorted(p.name for p in path.parent.glob(f"{name}-*.plan"))
        why = f"; the {len(others)} there are for other weights, GPUs, versions or precisions" if others else ""
        raise PlanError(
            f"{path.parent}: no plan of {name} in {key.precision} for {key.gpu} and TensorRT {key.runtime}{why}. "
            f"Type: {_command(key.precision)}"
        )
    return _checked(path, asdict(key))


def load_named(path: str | Path, runtime: str, gpu: str, precision: str) -> bytes:
    """A plan that the user named; raises PlanError unless its manifest is beside it and fits this machine."""
    return _checked(Path(path), {"runtime": runtime, "gpu": gpu, "precision": precision})


def _checked(path: Path, here: dict[str, Any]) -> bytes:
    again = f"Type: {_command(str(here['precision']))}"
    manifest = _read_manifest(path, again)
    made_for = manifest["key"]
    for field, wanted in here.items():
        # tuples come back from JSON as lists
        if made_for.get(field) != json.loads(json.dumps(wanted)):
            raise PlanError(
                f"{path}: the plan was made for another {field}: {_short(made_for.get(field))}, here is "
                f"{_short(wanted)}. {again}"
            )
    plan = path.read_bytes()
    size, expected = len(plan), manifest["plan"]["bytes"]
    if size != expected:
        raise PlanError(f"{path}: the plan is cut: expected {expected} bytes, got {size}. {again}")
    if hashlib.sha256(plan).hexdigest() != manifest["plan"]["sha256"]:
        raise PlanError(f"{path}: the plan is not what its manifest was written for. {again}")
    return plan


def _read_manifest(path: Path, again: str) -> dict[str, Any]:
    where = _manifest_path(path)
    try:
        manifest: dict[str, Any] = json.loads(where.read_bytes())
        known = manifest["version"] == VERSION and isinstance(manifest["key"], dict)
        complete = known and {"sha256", "bytes"} <= set(manifest["plan"])
    except OSError:
        raise PlanError(f"{path}: a plan without its manifest {where.name} is not opened. {again}") from None
    except (ValueError, KeyError, TypeError):
        complete = False
    if not complete:
        raise PlanError(f"{where}: expected the manifest of a plan of version {VERSION}, got another text. {again}")
    return manifest


def _manifest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _command(precision: str) -> str:
    return BUILD_COMMAND.format(precision=precision)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:24]}…"
