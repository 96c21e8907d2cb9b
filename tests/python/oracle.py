"""What onnx, onnxruntime and OpenVINO say of a model: the oracles that the Rust tests ask.

    target/venv/bin/python tests/python/oracle.py COMMAND ...

Each command prints one JSON document. Exit code 0: it could be done and all is well; 1: a model failed (the document
says which); 2: it could not be done, with a message on stderr.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
from google.protobuf import text_format
from google.protobuf.message import Message

OPTIMIZATION = {
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
# Bounds of onnxq's SQNR of a model, in dB.
SQNR_BOUNDS = (0.0, 60.0)


def session(model: str, optimization: str) -> ort.InferenceSession:
    """One thread: sums have one order, and tests that run side by side do not fight for cores."""
    options = ort.SessionOptions()
    options.graph_optimization_level = OPTIMIZATION[optimization]
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Reference:
    """onnx's own evaluator in the place of a session: it knows bfloat16, and takes no time to be fast."""

    def __init__(self, model: str):
        from onnx.reference import ReferenceEvaluator

        self.evaluator = ReferenceEvaluator(model)
        graph = onnx.load(model).graph
        names = {onnx.TensorProto.FLOAT16: "tensor(float16)", onnx.TensorProto.BFLOAT16: "tensor(bfloat16)"}
        port = lambda value: SimpleNamespace(name=value.name, type=names.get(value.type.tensor_type.elem_type))
        self.inputs, self.outputs = [port(value) for value in graph.input], [port(value) for value in graph.output]

    def get_inputs(self):
        return self.inputs

    def get_outputs(self):
        return self.outputs

    def run(self, outputs, feeds):
        return [value.astype(np.float32) for value in self.evaluator.run(outputs, feeds)]


def infer(model: str, data: dict[str, np.ndarray], optimization: str, whole: bool) -> dict[str, np.ndarray]:
    """All outputs over all samples. Samples lie along axis 0 of every array; `whole` runs them as one batch, else each
    is run alone with batch 1. An output without a batch axis of 1 gets a new axis 0. Arrays that are no input are
    ignored."""
    run = Reference(model) if optimization == "reference" else session(model, optimization)
    names = [value.name for value in run.get_inputs()]
    outputs = [value.name for value in run.get_outputs()]
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(f"{model}: inputs {missing} are missing in {sorted(data)}")
    halves = {"tensor(float16)": np.float16, "tensor(bfloat16)": ml_dtypes.bfloat16}
    types = {value.name: halves.get(value.type) for value in run.get_inputs()}
    feeds = {name: data[name].astype(types[name] or data[name].dtype, copy=False) for name in names}
    counts = {len(array) for array in feeds.values()}
    if len(counts) > 1:
        raise ValueError(f"{model}: the arrays differ in their number of samples: {sorted(counts)}")
    if whole or not feeds:
        return dict(zip(outputs, run.run(outputs, feeds)))
    samples = [
        run.run(outputs, {name: array[i : i + 1] for name, array in feeds.items()}) for i in range(counts.pop())
    ]
    return {name: along_samples([sample[i] for sample in samples]) for i, name in enumerate(outputs)}


def command_openvino(args: argparse.Namespace) -> tuple[dict, bool]:
    """Runs in OpenVINO on the CPU in float32 where the file says nothing else, and counts the types in which the products of
    the compiled graph are computed."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = openvino.Core().compile_model(args.model, "CPU", settings)
    data = load(args.inputs)
    names = [port.get_any_name() for port in model.inputs]
    outputs = [port.get_any_name() for port in model.outputs]
    runs = [
        model({name: data[name][i : i + 1] for name in names}).to_tuple() for i in range(len(data[names[0]]))
    ]
    np.savez(args.out, **{name: along_samples([np.array(run[i]) for run in runs]) for i, name in enumerate(outputs)})
    computed: dict[str, dict[str, int]] = {}
    for node in model.get_runtime_model().get_ops():
        kind, precision = (node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision"))
        if kind in ("Convolution", "FullyConnected", "MatMul", "Deconvolution"):
            counts = computed.setdefault(kind, {})
            counts[precision] = counts.get(precision, 0) + 1
    return {"computed": computed}, True


def along_samples(values: list[np.ndarray]) -> np.ndarray:
    has_batch = all(value.ndim > 0 and value.shape[0] == 1 for value in values)
    return np.concatenate(values) if has_batch else np.stack(values)


def command_run(args: argparse.Namespace) -> tuple[dict, bool]:
    outputs = infer(args.model, load(args.inputs), args.opt, args.whole)
    np.savez(args.out, **outputs)
    return {name: {"shape": list(value.shape), "dtype": str(value.dtype)} for name, value in outputs.items()}, True


def command_check(args: argparse.Namespace) -> tuple[list, bool]:
    results = []
    for model in args.models:
        error = None
        step = "onnx.checker"
        try:
            onnx.checker.check_model(model, full_check=True)
            for optimization in OPTIMIZATION:
                step = f"onnxruntime, optimization {optimization}"
                session(model, optimization)
        except Exception as caught:  # Each library has its own family of errors.
            error = f"{step}: {caught}"
        results.append({"model": model, "ok": error is None, "error": error})
    return results, all(result["ok"] for result in results)


def command_top1(args: argparse.Namespace) -> tuple[dict, bool]:
    data = load(args.data)
    label = data.get("label")
    ours = infer(args.model, data, args.opt, args.whole)
    result = {"samples": len(next(iter(ours.values()))), "top1": top1(ours, label)}
    if args.against:
        float_outputs = infer(args.against, data, args.opt, args.whole)
        result["against"] = compare(ours, float_outputs, label)
    return result, True


def classes(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """The predicted class by sample, from the first output."""
    return next(iter(outputs.values())).argmax(axis=-1)


def top1(outputs: dict[str, np.ndarray], label: np.ndarray | None) -> float | None:
    """In percent."""
    return None if label is None else float(100 * np.mean(classes(outputs) == label))


def compare(ours: dict[str, np.ndarray], floats: dict[str, np.ndarray], label: np.ndarray | None) -> dict:
    """Outputs are paired by their order; `difference` is the top-1 of ours minus that of `floats`, in points, with the
    standard error of the paired difference."""
    sqnr = {name: sqnr_db(f, q) for (name, f), q in zip(floats.items(), ours.values(), strict=True)}
    result = {
        "top1": top1(floats, label),
        "agreement": float(100 * np.mean(classes(ours) == classes(floats))),
        "sqnr_db": sqnr,
        "mean_sqnr_db": float(np.mean(np.clip(list(sqnr.values()), *SQNR_BOUNDS))),
        "largest_difference": max(float(np.abs(f - q).max()) for f, q in zip(floats.values(), ours.values())),
    }
    if label is not None:
        paired = (classes(ours) == label).astype(float) - (classes(floats) == label)
        result["difference"] = float(100 * paired.mean())
        result["standard_error"] = float(100 * paired.std() / np.sqrt(len(paired)))
    return result


def sqnr_db(signal: np.ndarray, noisy: np.ndarray) -> float:
    """10 log10(sum f^2 / sum (f - q)^2); bounded by 1000, as JSON knows no infinity."""
    signal, noisy = signal.astype(np.float64), noisy.astype(np.float64)
    noise = np.sum((signal - noisy) ** 2)
    power = np.sum(signal**2)
    if noise == 0:
        return 1000.0
    return float(10 * np.log10(power / noise)) if power > 0 else -1000.0


def command_backend(args: argparse.Namespace) -> tuple[dict, bool]:
    from onnx.backend.test.case.node import collect_testcases

    out = Path(args.out)
    node, shipped = out / "node", out / "shipped"
    node.mkdir(parents=True, exist_ok=True)
    count = 0
    # The cases' own data overflow and divide by zero on purpose.
    with np.errstate(all="ignore"):
        cases = collect_testcases(None)
    for case in cases:
        path = node / f"{case.name}.onnx"
        path.write_bytes(case.model.SerializeToString(deterministic=True))
        count += 1
    package = Path(onnx.__file__).parent
    files = sorted(package.rglob("*.onnx"))
    for file in files:
        path = shipped / file.relative_to(package)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, path)
    return {"node": count, "shipped": len(files)}, count == len(list(node.iterdir()))


def command_equal(args: argparse.Namespace) -> tuple[dict, bool]:
    pairs = [line.split("\t") for line in Path(args.listing).read_text(encoding="utf-8").splitlines() if line]
    different = []
    for a, b in pairs:
        why = difference(a, b)
        if why:
            different.append({"a": a, "b": b, "why": why})
    return {"pairs": len(pairs), "different": different}, not different


def difference(a: str, b: str) -> str | None:
    """Where two files hold different messages, the place of tensor data aside."""
    try:
        left, right = inlined(a), inlined(b)
    except Exception as caught:  # Each library has its own family of errors.
        return f"not readable: {caught}"
    if left.SerializeToString(deterministic=True) == right.SerializeToString(deterministic=True):
        return None
    lines = [text_format.MessageToString(message).splitlines() for message in (left, right)]
    for number, (l, r) in enumerate(zip(*lines), 1):
        if l != r:
            return f"line {number} of the text: {l.strip()[:200]} | {r.strip()[:200]}"
    longer = max(lines, key=len)[min(map(len, lines)) :]
    return f"one has {len(longer)} more lines of text, from: {longer[0].strip()[:200]}" if longer else "unknown fields"


def inlined(path: str) -> onnx.ModelProto:
    """The model with external data inside; where they lay is forgotten, other keys beside them are kept."""
    model = onnx.load(path, load_external_data=False)
    for tensor in tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            kept = [entry for entry in tensor.external_data if entry.key not in ("location", "offset", "length")]
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(Path(path).parent))
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            tensor.external_data.extend(kept)
    return model


def tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor in a message, however deep: in attributes, inner graphs, functions and sparse tensors too."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from tensors(part)


def command_optimize(args: argparse.Namespace) -> tuple[list, bool]:
    """What the runtime makes of each model before it runs it, without what depends on the machine's caches and vectors."""
    results = []
    for model, out in zip(args.models[::2], args.models[1::2], strict=True):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = out
        options.log_severity_level = 3
        error = None
        try:
            ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as caught:  # Each library has its own family of errors.
            error = str(caught)
        results.append({"model": model, "ok": error is None, "error": error})
    return results, all(result["ok"] for result in results)


def command_quantize(args: argparse.Namespace) -> tuple[dict, bool]:
    """onnxruntime's own quantizer with the settings that people use; samples come from an .npz, or are random."""
    import logging
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

    logging.disable(logging.WARNING)
    per_channel = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
    products = ["MatMul", "Gemm", "Conv"]
    settings = {
        "default": {},
        "per-channel": per_channel,
        "operators": per_channel | {"quant_format": QuantFormat.QOperator},
        "unsigned-weights": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8},
        "inputs": per_channel
        | {"op_types_to_quantize": products, "extra_options": {"OpTypesToExcludeOutputQuantization": products}},
        "16-bit": {"activation_type": QuantType.QUInt16, "weight_type": QuantType.QInt8},
    }

    class Samples(CalibrationDataReader):
        def __init__(self):
            inputs = session(args.model, "all").get_inputs()
            if args.data:
                data = load(args.data)
                feeds = [{x.name: data[x.name][i : i + 1] for x in inputs} for i in range(args.samples)]
            else:
                random = np.random.default_rng(0)
                shape = lambda x: [n if isinstance(n, int) else 1 for n in x.shape]
                feeds = [
                    {x.name: random.standard_normal(shape(x)).astype(np.float32) for x in inputs}
                    for _ in range(args.samples)
                ]
            self.feeds = iter(feeds)

        def get_next(self):
            return next(self.feeds, None)

    if args.setting.startswith("dynamic"):
        unsigned = args.setting == "dynamic-unsigned-weights"
        quantize_dynamic(args.model, args.out, weight_type=QuantType.QUInt8 if unsigned else QuantType.QInt8)
    else:
        quantize_static(args.model, args.out, Samples(), **settings[args.setting])
    return {"out": args.out}, True
def command_same(args: argparse.Namespace) -> tuple[dict, bool]:
    rows = [line.split("\t") for line in Path(args.listing).read_text(encoding="utf-8").splitlines() if line]
    different = []
    for a, b, data in rows:
        why = output_difference(a, b, load(data))
        if why:
            different.append({"a": a, "b": b, "why": why})
    return {"pairs": len(rows), "different": different}, not different


def output_difference(a: str, b: str, feeds: dict[str, np.ndarray]) -> str | None:
    """Where two models give other outputs for the same inputs, a few units in the last place aside."""
    try:
        left, right = (session(model, "none").run(None, feeds) for model in (a, b))
    except Exception as caught:  # The runtime has its own family of errors.
        return str(caught)
    for i, (l, r) in enumerate(zip(left, right, strict=True)):
        if (l.shape, l.dtype) != (r.shape, r.dtype):
            return f"output {i}: {l.dtype}{l.shape} | {r.dtype}{r.shape}"
        if not np.allclose(l, r, rtol=1e-6, atol=1e-6, equal_nan=True):
            return f"output {i} differs"
    return None


def command_parse(args: argparse.Namespace) -> tuple[list, bool]:
    results = []
    for i, file in enumerate(args.texts):
        result = {"text": file, "ok": True, "error": None}
        try:
            model = onnx.parser.parse_model(Path(file).read_text(encoding="utf-8"))
            if args.out:
                Path(args.out).mkdir(parents=True, exist_ok=True)
                result["model"] = str(Path(args.out) / f"{i}.onnx")
                onnx.save(model, result["model"])
            onnx.checker.check_model(model, full_check=True)
        except Exception as caught:  # Each library has its own family of errors.
            result |= {"ok": False, "error": str(caught)}
        results.append(result)
    return results, all(result["ok"] for result in results)


def load(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="oracle.py", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name, function, description):
        command = commands.add_parser(name, help=description, description=description)
        command.set_defaults(function=function)
        return command

    def execution(command):
        command.add_argument("--opt", choices=[*OPTIMIZATION, "reference"], default="all", help="graph optimization (default: all), or onnx's evaluator")
        command.add_argument("--whole", action="store_true", help="all samples as one batch, not one by one")

    run = add("run", command_run, "run a model over all samples; write its outputs")
    run.add_argument("model")
    run.add_argument("inputs", help="an .npz with a key for each input")
    run.add_argument("out", help="the .npz to write, a key for each output")
    execution(run)

    vino = add("openvino", command_openvino, "run a model in OpenVINO, sample by sample; write its outputs, count integer products")
    vino.add_argument("model")
    vino.add_argument("inputs", help="an .npz with a key for each input")
    vino.add_argument("out", help="the .npz to write, a key for each output")

    check = add("check", command_check, "onnx.checker, full, and loading in onnxruntime with and without optimization")
    check.add_argument("models", nargs="+")

    accuracy = add("top1", command_top1, "top-1 in percent; beside another model also agreement and SQNR")
    accuracy.add_argument("model")
    accuracy.add_argument("data", help="an .npz with a key for each input, and `label`")
    accuracy.add_argument("--against", metavar="FLOAT", help="the model that is the truth")
    execution(accuracy)

    backend = add("backend", command_backend, "write onnx's backend node models and all files its package ships")
    backend.add_argument("out", help="a folder; gets node/ and shipped/")

    equal = add("equal", command_equal, "whether the two files of each pair hold the same message")
    equal.add_argument("listing", help="a text file: a pair of paths a line, with a tab between")

    optimize = add("optimize", command_optimize, "write the graphs that onnxruntime makes of models")
    optimize.add_argument("models", nargs="+", help="a model and the file to write, and so on")

    quantize = add("quantize", command_quantize, "quantize a model with onnxruntime's own quantizer")
    quantize.add_argument("setting", help="default, per-channel, operators, unsigned-weights, inputs, 16-bit, dynamic ...")
    quantize.add_argument("model")
    quantize.add_argument("out")
    quantize.add_argument("--data", help="an .npz with a key for each input; random numbers without it")
    quantize.add_argument("--samples", type=int, default=2)
    same = add("same", command_same, "whether the two models of each row give the same outputs")
    same.add_argument("listing", help="a text file: two models and an .npz of inputs a line, with tabs between")

    parse = add("parse", command_parse, "read ONNX's textual syntax and check the model")
    parse.add_argument("texts", nargs="+")
    parse.add_argument("--out", help="a folder for the models read: 0.onnx, 1.onnx, ... in the order given")
    return top


def main() -> int:
    args = parser().parse_args()
    try:
        document, well = args.function(args)
    except Exception as error:  # Each library has its own family of errors.
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    json.dump(document, sys.stdout, indent=1)
    print()
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
