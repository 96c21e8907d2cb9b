"""What the scripts have in common that write models of one operator each."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def write(models: Iterable[tuple[str, onnx.ModelProto, dict[str, np.ndarray]]]) -> int:
    """Writes each model with its inputs as NAME.onnx and NAME.npz into the folder that the command line names.

    Prints a JSON list of the names.
    """
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, model, inputs in models:
        onnx.save(model, folder / f"{name}.onnx")
        np.savez(folder / f"{name}.npz", **inputs)
        names.append(name)
    json.dump(names, sys.stdout)
    print()
    return 0
