#!/usr/bin/env python3
"""Default int8 on every trained model at hand, beside onnxruntime's own quantizers, in one run.

    target/venv/bin/python benches/models.py [--models FOLDER] [--real FOLDER] [--only NAME...] [--peers NAME...] [--json FILE]

Needs `cargo build --release -p onnxq`, the environment that `.ci/run` makes, and trained models: `--models` holds
NAME/{*.onnx,calib.npz,test.npz}, `--real` NAME/{model.onnx,inputs.npz} of which the first half calibrates.

Per file: SQNR of the float outputs (dB, mean over outputs) and top-1 agreement against float in onnxruntime, optimized, on
data that no quantizer saw; latency as a ratio to float (CPU time of one thread, all files in turn, median); size as a ratio;
CPU seconds and peak MB of the whole quantizing process.
"""
import argparse
import json
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

import numpy as np
import onnxruntime

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from peers import HERE, run_and_measure  # noqa: E402

PEER = """
import sys
import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static)
from onnxruntime.quantization.shape_inference import quant_pre_process

sys.path.insert(0, sys.argv[1])
from models import feeds

model, data, out, method, folder, count = sys.argv[2:]

class Reader(CalibrationDataReader):
    def __init__(self, path):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.rows = iter(feeds(session, np.load(data))[: int(count)])
    def get_next(self):
        return next(self.rows, None)

source = model
if max(o.version for o in onnx.load(model, load_external_data=False).opset_import if o.domain in ("", "ai.onnx")) < 13:
    source = folder + "/op17.onnx"
    onnx.save(onnx.version_converter.convert_version(onnx.load(model), 17), source)
prepared = source
for skip in (False, True):
    try:
        quant_pre_process(source, folder + "/prepared.onnx", skip_symbolic_shape=skip)
        prepared = folder + "/prepared.onnx"
        break
    except Exception:
        pass
if method == "dynamic":
    quantize_dynamic(prepared, out, weight_type=QuantType.QInt8, per_channel=True)
else:
    quantize_static(prepared, out, Reader(prepared), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    calibrate_method=getattr(CalibrationMethod, method))
"""

PEERS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy", "dynamic": "dynamic"}


def feeds(session, data):
    """The samples: one feed each, with a batch axis of 1."""
    inputs = {value.name: len(value.shape) for value in session.get_inputs()}
    count = min(len(data[name]) for name in inputs)
    return [
        {name: data[name][i : i + 1] if data[name].ndim == axes else np.asarray(data[name][i]) for name, axes in inputs.items()}
        for i in range(count)
    ]


def find(options):
    """Name, model, calibration data and test data of every case."""
    cases = []
    if options.models:
        for path in sorted(pathlib.Path(options.models).glob("*/*.onnx")):
            data = [path.parent / "calib.npz", path.parent / "test.npz"]
            if options.images and not data[0].exists():
                data = [pathlib.Path(options.images) / name for name in ("calib.npz", "test.npz")]
            if data[0].exists():
                cases.append((f"{path.parent.name}/{path.stem}", path.resolve(), *(file.resolve() for file in data)))
    if options.real:
        for path in sorted(pathlib.Path(options.real).glob("*/model.onnx")):
            cases.append((path.parent.name, path.resolve(), (path.parent / "inputs.npz").resolve(), None))
    wanted = options.only
    return [case for case in cases if not wanted or any(word in case[0] for word in wanted)]


def split(data, test, folder):
    """Calibration and test data; without test data the first half calibrates."""
    if test is not None:
        return data, dict(np.load(test))
    arrays = dict(np.load(data))
    half = min(len(array) for array in arrays.values()) // 2
    calib = folder / "calib.npz"
    np.savez(calib, **{name: array[:half] for name, array in arrays.items()})
    return calib, {name: array[half:] for name, array in arrays.items()}


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def quality(reference, other):
    """Mean SQNR over the float outputs in dB, and the share of equal largest elements of the last axis.

    An output of another shape, as of a decoder that stops at another step, is wrong altogether.
    """
    wrong = lambda x, y: x if x.shape != y.shape else x.astype(np.float64) - y
    sqnr, same = [], []
    for a, b in zip(zip(*reference), zip(*other)):
        if a[0].dtype.kind != "f":
            continue
        signal = sum(float((x.astype(np.float64) ** 2).sum()) for x in a)
        error = sum(float((wrong(x, y).astype(np.float64) ** 2).sum()) for x, y in zip(a, b))
        db = 60.0 if error == 0 else 10 * np.log10(signal / error) if signal > 0 else 0.0
        sqnr.append(float(np.clip(np.nan_to_num(db), -20, 60)))
        rows = [(x, y) for x, y in zip(a, b) if x.ndim > 1 and x.shape[-1] > 1]
        same += [x.shape == y.shape and np.mean(x.argmax(-1) == y.argmax(-1)) for x, y in rows]
    return float(np.mean(sqnr)) if sqnr else 0.0, float(np.mean(same)) if same else None


def latency(sessions, rows, seconds):
    """Median CPU seconds of one run per session, taken in turn."""
    times = {name: [] for name in sessions}
    for one in sessions.values():
        for _ in range(3):
            one.run(None, rows[0])
    end, i = time.monotonic() + seconds, 0
    while time.monotonic() < end or i < 5:
        row = rows[i % len(rows)]
        for name, one in sessions.items():
            start = time.thread_time()
            one.run(None, row)
            times[name].append(time.thread_time() - start)
        i += 1
    return {name: statistics.median(column) for name, column in times.items()}


def examine(case, options):
    name, model, data, test = case
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        calib, held_out = split(data, test, folder)
        count = min(options.samples, min(len(array) for array in np.load(calib).values()))
        jobs = {"onnxq": [str(options.onnxq), str(model), str(folder / "onnxq.onnx"), "--calib", str(calib), "--samples",
                          str(count), "--quiet", *options.flags]}
        # Peers work on a copy: no path of the model itself is in their reach.
        copy = folder / "source.onnx"
        shutil.copyfile(model, copy)
        for peer in options.peers:
            jobs[peer] = [sys.executable, "-c", PEER, str(pathlib.Path(__file__).parent), str(copy), str(calib),
                          str(folder / f"{peer}.onnx"), PEERS[peer], str(folder), str(count)]
        float_session = session(model)
        rows = feeds(float_session, held_out)[: options.test]
        reference = [float_session.run(None, row) for row in rows]
        sessions, lines = {"float": float_session}, {}
        for job, command in jobs.items():
            status, cpu, peak, said = run_and_measure(command, folder)  # onnxruntime leaves files behind
            line = {"cpu": cpu, "mb": peak}
            lines[job] = line
            if status:
                line["failed"] = said.strip().splitlines()[-1][:160] if said.strip() else f"exit {status}"
                continue
            path = folder / f"{job}.onnx"
            line["size"] = path.stat().st_size / model.stat().st_size
            try:
                sessions[job] = session(path)
                line["sqnr"], line["same"] = quality(reference, [sessions[job].run(None, row) for row in rows])
            except Exception as error:  # noqa: BLE001: whatever a peer's file does is a result
                sessions.pop(job, None)
                line["failed"] = str(error).strip().splitlines()[0][:160]
        for job, seconds in latency(sessions, rows, options.seconds).items():
            lines.setdefault(job, {})["latency"] = seconds
        for line in lines.values():
            if "latency" in line:
                line["ratio"] = line["latency"] / lines["float"]["latency"]
    return lines


def show(name, lines):
    print(f"{name}  (float {1000 * lines['float']['latency']:.2f} ms)")
    for job, line in lines.items():
        if job == "float":
            continue
        if "failed" in line:
            print(f"  {job:<11} {line['failed']}")
            continue
        same = "     " if line["same"] is None else f"{line['same']:.3f}"
        print(f"  {job:<11} {line['sqnr']:6.1f} dB  agree {same}  latency {line['ratio']:.2f}  size {line['size']:.2f}  "
              f"{line['cpu']:6.1f} CPU s {line['mb']:6.0f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models")
    parser.add_argument("--real")
    parser.add_argument("--images", help="folder with calib.npz and test.npz for models that come with JPEG images")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--peers", nargs="*", default=["minmax", "percentile", "dynamic"], choices=PEERS)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--test", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--flags", nargs="*", default=[], help="more options for onnxq")
    parser.add_argument("--onnxq", default=HERE / "target/release/onnxq")
    parser.add_argument("--json")
    options = parser.parse_args()
    table = {}
    for case in find(options):
        table[case[0]] = examine(case, options)
        show(case[0], table[case[0]])
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
