"""Models of one fused operator of com.microsoft each, with inputs: what taking it apart must not change.

    target/venv/bin/python tests/python/fused_operators.py FOLDER

Writes FOLDER/CASE-VERSION.onnx and FOLDER/CASE-VERSION.npz for a version of ONNX's operators on each side of those at which
the forms that are written change. Prints a JSON list of the names.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from single_operators import floats, write

VERSIONS = {10: 5, 12: 7, 17: 8, 21: 10}
"""And the IR versions that came with them."""


@dataclass
class Case:
    name: str
    op_type: str
    # In the order of the operator's slots; None is an omitted one. Those also named in `constants` are initializers.
    inputs: dict[str, np.ndarray | None]
    attributes: dict = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    # An empty name is an omitted output; one without a type is no output of the model.
    outputs: dict[str, int] = field(default_factory=lambda: {"y": TensorProto.FLOAT})
    domain: str = "com.microsoft"
    since: int = 10
    # The names of sizes by input, where they are not fixed.
    sizes: dict[str, list] = field(default_factory=dict)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def products() -> Iterator[Case]:
    shapes = {"": ((2, 3, 4, 5), (2, 3, 5, 6)), "transA": ((2, 3, 5, 4), (2, 3, 5, 6)), "transB": ((2, 3, 4, 5), (2, 3, 6, 5))}
    for name, (a, b) in shapes.items():
        flags = {name: 1} if name else {}
        for alpha in (1.0, 0.25):
            both = {"a": floats(*a), "b": floats(*b, seed=1)}
            yield Case(f"FusedMatMul-{name}-{alpha}", "FusedMatMul", both, flags | {"alpha": alpha})
            yield Case(f"FusedMatMul-{name}-{alpha}-constant", "FusedMatMul", both, flags | {"alpha": alpha}, {"b"})
    # The first axis counts rows, those behind it batches.
    batch = {"a": floats(4, 2, 3, 5), "b": floats(5, 2, 3, 6, seed=1)}
    yield Case("FusedMatMul-batches", "FusedMatMul", batch, {"transBatchA": 1, "transBatchB": 1})
    batch = {"a": floats(5, 2, 3, 4), "b": floats(6, 2, 3, 5, seed=1)}
    yield Case("FusedMatMul-all", "FusedMatMul", batch, {"transBatchA": 1, "transA": 1, "transBatchB": 1, "transB": 1})
    yield Case("TransposeMatMul", "TransposeMatMul", {"a": floats(3, 4), "b": floats(5, 4, seed=1)}, {"transB": 1, "alpha": 2.0})
    gemm = {"a": floats(4, 3), "b": floats(5, 4, seed=1), "c": floats(5, seed=2)}
    turned = {"transA": 1, "transB": 1, "alpha": 0.5}
    yield Case("FusedGemm-Relu", "FusedGemm", gemm, turned | {"activation": "Relu"}, {"b", "c"})
    yield Case("FusedGemm-LeakyRelu", "FusedGemm", gemm, turned | {"activation": "LeakyRelu", "activation_alpha": 0.2})
    hard = {"activation": "HardSigmoid", "activation_alpha": 0.3, "activation_beta": 0.4}
    yield Case("FusedGemm-HardSigmoid", "FusedGemm", {"a": floats(3, 4), "b": floats(4, 5)}, hard)
    image = {"x": floats(1, 4, 7, 7), "w": floats(6, 2, 3, 3), "b": floats(6, seed=1)}
    form = {"group": 2, "pads": [1, 0, 1, 2], "strides": [2, 1], "kernel_shape": [3, 3]}
    activations = {"Relu": [], "Tanh": [], "Sigmoid": [], "LeakyRelu": [0.1], "Clip": [-0.5, 0.75], "HardSigmoid": [0.3, 0.4]}
    for name, params in activations.items():
        numbers = {"activation_params": params} if params else {}
        yield Case(f"FusedConv-{name}", "FusedConv", image, form | {"activation": name} | numbers, {"w", "b"})
    added = {"x": floats(1, 4, 7, 7), "w": floats(6, 4, 1, 1), "b": floats(6, seed=1), "z": floats(1, 6, 7, 7, seed=2)}
    yield Case("FusedConv-sum", "FusedConv", added, {"activation": "Relu"}, {"w", "b"})


def activations() -> Iterator[Case]:
    x, bias = floats(2, 3, 8) * 3, floats(8, seed=1)
    yield Case("BiasGelu", "BiasGelu", {"x": x, "b": bias}, {}, {"b"})
    yield Case("FastGelu", "FastGelu", {"x": x})
    yield Case("FastGelu-bias", "FastGelu", {"x": x, "b": bias}, {}, {"b"})
    yield Case("Gelu", "Gelu", {"x": x})
    yield Case("QuickGelu", "QuickGelu", {"x": x})
    yield Case("QuickGelu-silu", "QuickGelu", {"x": x}, {"alpha": 1.0})


def norms() -> Iterator[Case]:
    x, skip, gamma, beta, bias = floats(2, 3, 8), floats(2, 3, 8, seed=1), floats(8, seed=2), floats(8, seed=3), floats(8, seed=4)
    sums = {"y": TensorProto.FLOAT, "": 0, " ": 0, "sum": TensorProto.FLOAT}
    both, whole = {"x": x, "skip": skip, "gamma": gamma}, {"x": x, "skip": skip, "gamma": gamma, "beta": beta, "bias": bias}
    constants = {"gamma", "beta", "bias"}
    yield Case("SkipLayerNormalization", "SkipLayerNormalization", both | {"beta": beta}, {"epsilon": 1e-5}, constants)
    yield Case("SkipLayerNormalization-no-beta", "SkipLayerNormalization", both, {}, constants)
    yield Case("SkipLayerNormalization-sum", "SkipLayerNormalization", whole, {"epsilon": 1e-5}, constants, sums)
    yield Case("SkipLayerNormalization-gap", "SkipLayerNormalization", both | {"beta": None, "bias": bias}, {}, constants)
    simple = "SkipSimplifiedLayerNormalization"
    yield Case(simple, simple, both, {"epsilon": 1e-5}, constants)
    yield Case(f"{simple}-sum", simple, both | {"bias": bias}, {"epsilon": 1e-5}, constants, sums)
    # A row of zeros, as behind padding, on an epsilon that float16 has not.
    half = {name: array.astype(np.float16) for name, array in (both | {"beta": beta}).items()}
    half["x"][0], half["skip"][0] = 0, 0
    halves = {"y": TensorProto.FLOAT16}
    yield Case("SkipLayerNormalization-half", "SkipLayerNormalization", half, {}, constants, halves)
    del half["beta"]
    yield Case(f"{simple}-half", simple, half, {}, constants, halves)
    simple = "SimplifiedLayerNormalization"
    yield Case(simple, simple, {"x": x, "gamma": gamma}, {"epsilon": 1e-5, "axis": -1}, constants, domain="")
    tables = {"words": floats(20, 8), "positions": floats(16, 8, seed=1), "segments": floats(2, 8, seed=2)}
    ids, kinds = ints(1, 5, 19, 0, 2, 3).reshape(2, 3), ints(0, 1, 1, 0, 0, 1).reshape(2, 3)
    mask, places = ints(1, 1, 0, 1, 1, 1).reshape(2, 3), ints(3, 4, 5, 0, 2, 1).reshape(2, 3)
    embed, constants = "EmbedLayerNormalization", set(tables) | {"gamma", "beta"}
    inputs = {"ids": ids, "kinds": kinds} | tables | {"gamma": gamma, "beta": beta}
    count = {"y": TensorProto.FLOAT, "count": TensorProto.INT32}
    yield Case(embed, embed, inputs | {"mask": mask}, {"epsilon": 1e-5}, constants, count)
    everything = count | {"sum": TensorProto.FLOAT}
    yield Case(f"{embed}-places", embed, inputs | {"mask": mask, "places": places}, {}, constants, everything)
    words = {"ids": ids, "kinds": None, "words": tables["words"], "positions": tables["positions"], "segments": None}
    yield Case(f"{embed}-words", embed, words | {"gamma": gamma, "beta": beta}, {}, constants, count | {"count": 0})


def attention() -> Iterator[Case]:
    x, weight, bias = floats(2, 3, 8), floats(8, 24, seed=1), floats(24, seed=2)
    inputs, constants, heads = {"x": x, "w": weight, "b": bias}, {"w", "b"}, {"num_heads": 2}
    yield Case("Attention", "Attention", inputs, heads, constants)
    yield Case("Attention-scale", "Attention", inputs, heads | {"scale": 0.3}, constants)
    sizes = {"x": x, "w": floats(8, 28, seed=1), "b": floats(28, seed=2)}
    yield Case("Attention-sizes", "Attention", sizes, heads | {"qkv_hidden_sizes": [8, 8, 12]}, constants)
    keys = ints(1, 1, 0, 1, 1, 1).reshape(2, 3)
    yield Case("Attention-keys", "Attention", inputs | {"mask": keys}, heads, constants)
    yield Case("Attention-keys-filter", "Attention", inputs | {"mask": keys}, heads | {"mask_filter_value": -3.4e38}, constants)
    signs = ints(2, 1, -1, 0, 1, 1).reshape(2, 3)
    yield Case("Attention-keys-signs", "Attention", inputs | {"mask": signs}, heads, constants)
    pairs = ints(*[1, 0, 0, 1, 1, 0, 1, 1, 1] * 2).reshape(2, 3, 3)
    yield Case("Attention-pairs", "Attention", inputs | {"mask": pairs}, heads, constants)
    rows = {"x": ["N", "S", 8], "mask": ["N"]}
    yield Case("Attention-lengths", "Attention", inputs | {"mask": ints(2, 3)}, heads, constants, since=12, sizes=rows)
    yield Case("Attention-causal", "Attention", inputs, heads | {"unidirectional": 1}, constants, since=12)
    added = {"mask": None, "past": None, "added": floats(1, 2, 3, 3)}
    yield Case("Attention-added", "Attention", inputs | added, heads, constants)
    yield Case("Attention-no-bias", "Attention", {"x": x, "w": weight}, heads, constants)


def cases() -> Iterator[Case]:
    for family in (products, activations, norms, attention):
        yield from family()


def model(case: Case, version: int) -> onnx.ModelProto:
    def declared(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        shape = case.sizes.get(name, array.shape)
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), shape)

    arrays = {name: array for name, array in case.inputs.items() if array is not None}
    inputs = [name if array is not None else "" for name, array in case.inputs.items()]
    outputs = [name.strip() for name in case.outputs]
    node = helper.make_node(case.op_type, inputs, outputs, name="it", domain=case.domain, **case.attributes)
    graph = helper.make_graph(
        [node],
        case.name,
        [declared(name, array) for name, array in arrays.items() if name not in case.constants],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in case.outputs.items() if kind],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in case.constants],
    )
    imports = [helper.make_opsetid("", version), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=VERSIONS[version])


def models() -> Iterator[tuple[str, onnx.ModelProto, dict[str, np.ndarray]]]:
    for case in cases():
        given = {key: array for key, array in case.inputs.items() if array is not None and key not in case.constants}
        for version in VERSIONS:
            if case.since <= version:
                yield f"{case.name}-{version}", model(case, version), given


if __name__ == "__main__":
    sys.exit(write(models()))
