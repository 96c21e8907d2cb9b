"""Models of one operator each in old operator versions, with inputs: what raising them to a newer one must not change.

    target/venv/bin/python tests/python/old_operators.py FOLDER

For every case and every version from 7 to 12 that has the operator in that form, writes FOLDER/CASE-VERSION.onnx and
FOLDER/CASE-VERSION.npz. Prints a JSON list of the names.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from single_operators import floats, write

VERSIONS = range(7, 13)
# The IR version that came with each.
IR_VERSION = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7}


@dataclass
class Case:
    name: str
    op_type: str
    inputs: dict[str, np.ndarray]
    attributes: dict = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    # An empty name is an omitted output; types other than float are declared.
    outputs: dict[str, int] = field(default_factory=lambda: {"y": TensorProto.FLOAT})
    since: int = 7
    until: int = 12


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    return np.abs(floats(*shape, seed=seed)) + 0.1


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def normalisations() -> Iterator[Case]:
    for op_type in ("Softmax", "LogSoftmax", "Hardmax"):
        yield Case(f"{op_type}-default", op_type, {"x": floats(2, 3, 4)})
        yield Case(f"{op_type}-matrix", op_type, {"x": floats(2, 3)})
        yield Case(f"{op_type}-ones", op_type, {"x": floats(2, 3, 1, 1)})
        yield Case(f"{op_type}-negative", op_type, {"x": floats(2, 3, 4)}, {"axis": -2}, since=11)
        for axis in (0, 1, 2, 3):
            yield Case(f"{op_type}-{axis}", op_type, {"x": floats(2, 3, 4, 5)}, {"axis": axis})
    statistics = {name: positive(3, seed=i) for i, name in enumerate(["scale", "bias", "mean", "variance"])}
    yield Case("BatchNormalization", "BatchNormalization", {"x": floats(2, 3, 4, 5)}, {"epsilon": 0.01}, statistics)
    yield Case("BatchNormalization-spatial", "BatchNormalization", {"x": floats(2, 3, 4)}, {"spatial": 1}, statistics, until=8)
    two = {"scale": floats(3), "bias": floats(3, seed=1)}
    yield Case("InstanceNormalization", "InstanceNormalization", {"x": floats(2, 3, 4)}, {}, two)
    yield Case("LRN", "LRN", {"x": floats(2, 5, 4, 4)}, {"size": 3})
    yield Case("LpNormalization", "LpNormalization", {"x": floats(2, 5)}, {"axis": 1})
    yield Case("MeanVarianceNormalization", "MeanVarianceNormalization", {"x": floats(2, 3, 4, 4)}, since=9)
    yield Case("Dropout", "Dropout", {"x": floats(2, 3)}, {"ratio": 0.3}, until=11)
    yield Case("Dropout-plain", "Dropout", {"x": floats(2, 3)})


def shapes() -> Iterator[Case]:
    x = {"x": floats(2, 3, 4)}
    yield Case("Slice", "Slice", x, {"starts": [1, 0], "ends": [3, -1], "axes": [1, 2]}, until=9)
    yield Case("Slice-front", "Slice", x, {"starts": [1, 0], "ends": [1000, 2]}, until=9)
    bounds = {"starts": ints(1), "ends": ints(3), "axes": ints(2), "steps": ints(2)}
    yield Case("Slice-inputs", "Slice", x, {}, bounds, since=10)
    indices = {"y": TensorProto.FLOAT, "i": TensorProto.INT64}
    yield Case("TopK", "TopK", x, {"k": 2, "axis": 1}, outputs=indices, until=9)
    yield Case("TopK-input", "TopK", x, {"axis": 1}, {"k": ints(2)}, outputs=indices, since=10)
    yield Case("Pad", "Pad", x, {"pads": [0, 1, 0, 0, 0, 2], "value": 1.5}, until=10)
    yield Case("Pad-plain", "Pad", x, {"pads": [0, 1, 0, 0, 0, 2]}, until=10)
    yield Case("Pad-edge", "Pad", x, {"pads": [0, 1, 0, 0, 0, 2], "mode": "edge"}, until=10)
    yield Case("Pad-inputs", "Pad", x, {}, {"pads": ints(0, 1, 0, 0, 0, 2), "v": np.float32(2)}, since=11)
    yield Case("Squeeze", "Squeeze", {"x": floats(2, 1, 3, 1)}, {"axes": [1]})
    yield Case("Squeeze-all", "Squeeze", {"x": floats(2, 1, 3, 1)})
    yield Case("Unsqueeze", "Unsqueeze", x, {"axes": [0, 2]})
    parts = {"a": TensorProto.FLOAT, "b": TensorProto.FLOAT}
    yield Case("Split", "Split", x, {"axis": 2}, outputs=parts)
    yield Case("Split-sizes", "Split", x, {"axis": 2, "split": [1, 3]}, outputs=parts)
    yield Case("Flatten", "Flatten", x, {"axis": 2})
    yield Case("Reshape", "Reshape", x, {}, {"shape": ints(0, -1)})
    yield Case("Transpose", "Transpose", x, {"perm": [2, 0, 1]})
    yield Case("Tile", "Tile", x, {}, {"repeats": ints(1, 2, 1)})
    yield Case("Expand", "Expand", {"x": floats(3, 1)}, {}, {"shape": ints(2, 3, 4)}, since=8)
    yield Case("Concat", "Concat", {"a": floats(2, 3), "b": floats(2, 2)}, {"axis": 1})
    yield Case("Gather", "Gather", x, {"axis": 1}, {"i": ints(2, 0)})
    yield Case("DepthToSpace", "DepthToSpace", {"x": floats(1, 8, 2, 3)}, {"blocksize": 2})
    yield Case("SpaceToDepth", "SpaceToDepth", {"x": floats(1, 2, 4, 6)}, {"blocksize": 2})
    yield Case("Shape", "Shape", x, outputs={"y": TensorProto.INT64})
    yield Case("Size", "Size", x, outputs={"y": TensorProto.INT64})
    yield Case("ConstantOfShape", "ConstantOfShape", {"s": ints(2, 3)}, since=9)
    yield Case("Compress", "Compress", x, {"axis": 1}, {"c": np.array([True, False, True])}, since=9)
    yield Case("Scatter", "Scatter", x, {"axis": 1}, {"i": np.zeros((2, 1, 4), np.int64), "u": floats(2, 1, 4)}, since=9, until=10)
    hot = {"depth": ints(4), "values": np.array([0.5, 2], np.float32)}
    yield Case("OneHot", "OneHot", {"x": ints(0, 3, 5, 2)}, {"axis": 0}, hot, since=9)
    yield Case("NonZero", "NonZero", {"x": np.array([[0, 2], [3, 0]], np.float32)}, outputs={"y": TensorProto.INT64}, since=9)
    yield Case("EyeLike", "EyeLike", {"x": floats(3, 4)}, {"k": 1}, since=9)


def sizes() -> Iterator[Case]:
    image = {"x": floats(1, 2, 5, 4)}
    for mode, factors in [("nearest", [1, 1, 2, 3]), ("nearest", [1, 1, 1.6, 2.5]), ("linear", [1, 1, 2, 1.5])]:
        name = f"{mode}-{factors[2]}-{factors[3]}"
        scales = {"scales": np.array(factors, np.float32)}
        yield Case(f"Upsample-{name}", "Upsample", image, {"mode": mode, "scales": [float(f) for f in factors]}, until=8)
        yield Case(f"Upsample-input-{name}", "Upsample", image, {"mode": mode}, scales, since=9, until=9)
        yield Case(f"Resize-{name}", "Resize", image, {"mode": mode}, scales, since=10, until=10)
    for mode, factors in [("nearest", [1, 1, 0.5, 0.6]), ("linear", [1, 1, 0.5, 1.7])]:
        scales = {"scales": np.array(factors, np.float32)}
        yield Case(f"Resize-{mode}-less", "Resize", image, {"mode": mode}, scales, since=10, until=10)
    for way in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
        scales = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 1.6, 2], np.float32)}
        attributes = {"mode": "linear", "coordinate_transformation_mode": way}
        yield Case(f"Resize-{way}", "Resize", image, attributes, scales, since=11)
        yield Case(f"Resize-nearest-{way}", "Resize", image, attributes | {"mode": "nearest"}, scales, since=11)


def sums() -> Iterator[Case]:
    x = {"x": positive(2, 3, 4)}
    names = "L1 L2 LogSum LogSumExp Max Mean Min Prod Sum SumSquare".split()
    for name in names:
        yield Case(f"Reduce{name}", f"Reduce{name}", x, {"axes": [1]})
        yield Case(f"Reduce{name}-all", f"Reduce{name}", x, {"keepdims": 0})
        yield Case(f"Reduce{name}-negative", f"Reduce{name}", x, {"axes": [-1], "keepdims": 0}, since=11)
    for name in ("ArgMax", "ArgMin"):
        yield Case(name, name, x, {"axis": 1}, outputs={"y": TensorProto.INT64})
    yield Case("CumSum", "CumSum", x, {}, {"axis": np.array(1, np.int32)}, since=11)


def elements() -> Iterator[Case]:
    x, both = {"x": positive(2, 3)}, {"a": positive(2, 3), "b": positive(3, seed=1)}
    plain = "Abs Ceil Elu Exp Floor HardSigmoid Identity LeakyRelu Log Neg Reciprocal Relu Selu Sigmoid Softplus Softsign Sqrt Tanh"
    for name in plain.split():
        yield Case(name, name, x)
    for name in "Acos Asin Atan Cos Sin Tan".split():
        yield Case(name, name, {"x": positive(2, 3) % 1})
    for name in "Acosh Asinh Atanh Cosh Erf Shrink Sign Sinh".split():
        yield Case(name, name, {"x": positive(2, 3) % 1 + (1 if name == "Acosh" else 0)}, since=9)
    for name in "Add Div Mul Pow Sub PRelu".split():
        yield Case(name, name, both)
    for name in "Max Mean Min Sum".split():
        yield Case(name, name, {"a": floats(2, 3), "b": floats(2, 3, seed=1)})
    for name, since in {"Greater": 7, "Less": 7, "Equal": 11}.items():
        yield Case(name, name, both, outputs={"y": TensorProto.BOOL}, since=since)
    c = {"c": np.array([True, False, True]), "a": floats(2, 3), "b": floats(2, 3, seed=1)}
    yield Case("Where", "Where", c, since=9)
    yield Case("Clip", "Clip", {"x": floats(4, 4)}, {"min": -0.5, "max": 0.5}, until=10)
    yield Case("Clip-max", "Clip", {"x": floats(4, 4)}, {"max": 0.5}, until=10)
    yield Case("Clip-inputs", "Clip", {"x": floats(4, 4)}, {}, {"low": np.float32(-0.5), "high": np.float32(0.5)}, since=11)
    yield Case("Cast", "Cast", {"x": floats(2, 3) * 9}, {"to": TensorProto.INT32}, outputs={"y": TensorProto.INT32})
    yield Case("Constant", "Constant", {}, {"value": numpy_helper.from_array(floats(2, 2))})
    yield Case("IsNaN", "IsNaN", {"x": floats(2, 3)}, outputs={"y": TensorProto.BOOL}, since=9)
    yield Case("Mod", "Mod", {"a": ints(7, -7), "b": ints(3, 3)}, outputs={"y": TensorProto.INT64}, since=10)


def products() -> Iterator[Case]:
    yield Case("MatMul", "MatMul", {"a": floats(2, 3, 4), "b": floats(4, 5)})
    yield Case("Gemm", "Gemm", {"a": floats(4, 2), "b": floats(5, 4), "c": floats(5)}, {"transA": 1, "transB": 1, "alpha": 0.5})
    image, weight = {"x": floats(1, 4, 7, 7)}, {"w": floats(6, 2, 3, 3), "b": floats(6)}
    yield Case("Conv", "Conv", image, {"group": 2, "pads": [1, 0, 1, 2], "strides": [2, 1]}, weight)
    yield Case("ConvTranspose", "ConvTranspose", image, {"strides": [2, 2], "output_padding": [1, 1]}, {"w": floats(4, 3, 2, 2)})
    pool = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}
    yield Case("MaxPool", "MaxPool", image, pool)
    yield Case("MaxPool-ceil", "MaxPool", image, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, since=10)
    yield Case("AveragePool", "AveragePool", image, pool)
    yield Case("AveragePool-padded", "AveragePool", image, pool | {"count_include_pad": 1})
    for name in ("GlobalAveragePool", "GlobalMaxPool"):
        yield Case(name, name, image)
    yield Case("LpPool", "LpPool", image, {"kernel_shape": [2, 2]})
    for name, gates in {"LSTM": 4, "GRU": 3, "RNN": 1}.items():
        weights = {"w": floats(1, 5 * gates, 3), "r": floats(1, 5 * gates, 5), "b": floats(1, 10 * gates)}
        yield Case(name, name, {"x": floats(6, 2, 3)}, {"hidden_size": 5}, weights)
    yield Case("QuantizeLinear", "QuantizeLinear", {"x": floats(2, 3)}, {}, {"s": np.float32(0.1), "z": np.uint8(7)}, {"y": TensorProto.UINT8}, 10)
    yield Case("DequantizeLinear", "DequantizeLinear", {"x": np.arange(9, dtype=np.uint8)}, {}, {"s": np.float32(0.1), "z": np.uint8(7)}, since=10)


def cases() -> Iterator[Case]:
    for family in (normalisations, shapes, sizes, sums, elements, products):
        yield from family()


def model(case: Case, version: int) -> onnx.ModelProto:
    def declared(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    arrays = case.inputs | {name: np.asarray(array) for name, array in case.constants.items()}
    node = helper.make_node(case.op_type, list(arrays), list(case.outputs), name="it", **case.attributes)
    # Before IR version 4 initializers are inputs too.
    inputs = arrays if IR_VERSION[version] < 4 else case.inputs
    graph = helper.make_graph(
        [node],
        case.name,
        [declared(name, array) for name, array in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in case.outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in case.constants.items()],
    )
    imports = [helper.make_opsetid("", version)]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION[version])


def models() -> Iterator[tuple[str, onnx.ModelProto, dict[str, np.ndarray]]]:
    for case in cases():
        for version in VERSIONS:
            if case.since <= version <= case.until:
                yield f"{case.name}-{version}", model(case, version), case.inputs


if __name__ == "__main__":
    sys.exit(write(models()))
