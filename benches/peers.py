#!/usr/bin/env python3
"""CPU seconds and peak memory of whole processes: onnxq beside onnxruntime's quantize_static, on the same work in one run.

    target/venv/bin/python benches/peers.py [--runs N] [--model MODEL.onnx --calib CALIB.npz] [--onnxsim PROGRAM]

Needs `cargo build --release -p onnxq` and the environment that `.ci/run` makes. Runs alternate; medians are printed, and
ratios of medians. onnxruntime's process is what its documentation shows: import, quant_pre_process, quantize_static
(QDQ, u8 activations, s8 weights per channel), one sample a call. With `--onnxsim` (the program of that package, in an
environment of its own) runs on 32 samples are compared with what simplifying the model costs.
"""
import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent.parent

PEER = """
import sys
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

model, calib, out, method, samples, folder = sys.argv[1:]

class Reader(CalibrationDataReader):
    def __init__(self):
        data = np.load(calib)
        name = [key for key in data.files if key != "label"][0]
        self.rows = iter([{name: row[None]} for row in data[name][: int(samples)]])
    def get_next(self):
        return next(self.rows, None)

prepared = folder + "/prepared.onnx"
quant_pre_process(model, prepared)
quantize_static(prepared, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=getattr(CalibrationMethod, method))
"""


def run_and_measure(command, folder=None):
    """Exit code, CPU seconds (user and system), peak resident MB and what one process said on standard error."""
    # A process of its own, since the peak of children never falls.
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)\n"
        "sys.stderr.write(done.stderr.decode() if done.returncode else '')\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True,
                          cwd=folder)
    status, seconds, peak = done.stdout.split()
    return int(status), float(seconds), float(peak), done.stderr


def measure(command):
    """CPU seconds and peak MB of a process that must succeed."""
    status, seconds, peak, said = run_and_measure(command)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{said}")
    return seconds, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default=str(HERE / "testdata/models/deit_fmnist.onnx"))
    parser.add_argument("--calib", default=str(HERE / "testdata/models/calib.npz"))
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--onnxsim", help="the program of the package onnxsim")
    options = parser.parse_args()
    onnxq = str(HERE / "target/release/onnxq")
    if not os.path.exists(onnxq):
        sys.exit("build it first: cargo build --release -p onnxq")
    with tempfile.TemporaryDirectory() as folder:
        ours = [onnxq, options.model, f"{folder}/ours.onnx", "--calib", options.calib, "--quiet"]
        peer = [sys.executable, "-c", PEER, options.model, options.calib, f"{folder}/peer.onnx"]
        samples = str(options.samples)
        # As much as the peers do: no plan is tried out.
        plain = ["--min-sqnr", "off", "--min-node-sqnr", "off"]
        jobs = {
            "onnxq": [*ours, "--samples", samples],
            "onnxq minmax": [*ours, *plain, "--samples", samples, "--calibrator", "minmax"],
            "onnxruntime minmax": [*peer, "MinMax", samples, folder],
            "onnxq percentile": [*ours, *plain, "--samples", samples, "--calibrator", "percentile"],
            "onnxruntime percentile": [*peer, "Percentile", samples, folder],
            "onnxq minmax, 32 samples": [*ours, *plain, "--samples", "32", "--calibrator", "minmax"],
            "onnxq, 32 samples": [*ours, "--samples", "32"],
            "onnxq, 8 samples": [*ours, "--samples", "8"],
        }
        if options.onnxsim:
            jobs["onnxsim"] = [options.onnxsim, options.model, f"{folder}/simplified.onnx"]
        seen = {name: [] for name in jobs}
        for _ in range(options.runs):
            for name, command in jobs.items():
                seen[name].append(measure(command))
    median = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in seen.items()}
    print(f"{options.model}, {samples} samples, median of {options.runs} runs")
    for name, (seconds, peak) in median.items():
        print(f"  {name:<26} {seconds:7.2f} CPU s {peak:7.0f} MB")
    for method in ("minmax", "percentile"):
        (a, b), (c, d) = median[f"onnxq {method}"], median[f"onnxruntime {method}"]
        print(f"  {method}: {a / c:.3f} of its CPU seconds, {b / d:.3f} of its memory")
    few, many = median["onnxq, 8 samples"][1], median["onnxq"][1]
    print(f"  peak memory at {samples} samples is {many / few:.2f} times that at 8")
    (a, b), default = median["onnxq minmax, 32 samples"], median["onnxq, 32 samples"][0]
    print(f"  32 samples: the default takes {default / a:.2f} times the CPU seconds of minmax without trials")
    if options.onnxsim:
        c, d = median["onnxsim"]
        print(f"  minmax without trials: {a / c:.2f} of onnxsim's CPU seconds, {b / d:.2f} of its memory")


if __name__ == "__main__":
    main()
