"""Encoding speed by memory format, precision and batch size, compared with other runtimes.

Writes  encode.csv in --output

    python -m benchmarks.encode.runtimes
    python -m benchmarks.encode.runtimes --quick

The naive loop is the original's: float32 and contiguous; it reads, embeds and fetches one batch
after the other. OpenVINO and ONNX Runtime run the model exported by process_data.export_onnx.
"""

import argparse
import copy
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.fx.experimental.optimization import fuse

from benchmarks import measured_process, results, roofline
from benchmarks.timing import by_turns, median, spread
from retrieval.compute import devices
from retrieval.data import provenance
from retrieval.model import onnx, runtime
from retrieval.model.embedding import EmbeddingModel, compile_backbone, put_on
from retrieval.model.encode import embedding_blocks

NAIVE, OURS, CEILING, PEAK = "naive loop", "ours", "resident batch", "matmul peak"
COMPILED, AUTO = f"{OURS}, compiled", f"{OURS}, --runtime=auto"
Embed = Callable[[np.ndarray], np.ndarray]


def embed_with(
    model: EmbeddingModel,
    device: torch.device,
    memory_format: torch.memory_format,
    dtype: torch.dtype,
) -> Embed:
    """Return a plain loop body: copy to the device, normalize, embed, copy back."""
    model = model.to(device).to(memory_format=memory_format)

    def embed(images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images).to(device).float() / 255
        pixels = ((pixels - model.mean) / model.std).contiguous(memory_format=memory_format)
        with devices.autocast(device, dtype):
            features = model.backbone(pixels)
        pooled = model.projection(model.pool(features.float()))
        return torch.nn.functional.normalize(pooled).cpu().numpy()

    return embed


def methods(
    device: torch.device, arch: str, batches: list[int], is_quick: bool
) -> list[dict[str, Any]]:
    """Return the variants to measure, as arguments of ``timed``."""
    largest = max(batches)
    # A batch in emulated bfloat16 takes minutes.
    is_native = devices.compute_dtype(device, "auto") == torch.bfloat16
    precisions = ("float32", "bfloat16") if is_native else ("float32",)
    found = [{"method": NAIVE, "batch": largest}, {"method": OURS, "batch": largest}]
    if device.type == "cuda":
        found.append({"method": f"torch channels_last {precisions[-1]}", "batch": largest})
        batches = []
    for batch in batches:
        for layout in ("contiguous", "channels_last"):
            for precision in precisions:
                found.append({"method": f"torch {layout} {precision}", "batch": batch})
        if not arch.startswith("timm/"):  # torch.fx cannot trace all of them
            found.append({"method": "torch folded", "batch": batch})
        if device.type == "cpu":
            runtimes = [name for name in runtime.START if find_spec(name)]
            found += [{"method": name, "batch": batch} for name in runtimes]
    if device.type == "cpu":
        found.append({"method": AUTO, "batch": largest})
    if device.type == "cuda":
        found.append({"method": CEILING, "batch": largest})
    if not is_quick and shutil.which("g++"):
        found.append({"method": COMPILED, "batch": largest})
    return found


def timed(
    method: str, batch: int, folder: str, arch: str, device_name: str, seconds: float, n_thread: int
) -> dict[str, float]:
    """Run a variant for about ``seconds``; return images/s and the difference from float32."""
    device = devices.choose(device_name)
    matrix = np.load(Path(folder) / "images.npy", mmap_mode="r")
    model = roofline.make_model(arch, matrix.shape[-1]).eval()
    auto = devices.compute_dtype(device, "auto")
    with torch.inference_mode():
        expected = model(torch.from_numpy(matrix[:4].copy())).numpy()
        if method.startswith(OURS):
            return _timed_ours(put_on(model, device), matrix, batch, method, seconds, expected)
        if method == CEILING:
            return _timed_resident(put_on(model, device), matrix, batch, seconds)
        embed = _embed_of(method, model, device, Path(folder), n_thread, auto)
        difference = float(np.abs(embed(np.array(matrix[:4])) - expected).max())
        embed(np.array(matrix[:batch]))
        start, done = time.perf_counter(), 0
        while not done or time.perf_counter() - start < seconds:
            first = done % max(1, len(matrix) - batch + 1)
            images = np.array(matrix[first : first + batch])
            embed(images)
            done += len(images)
        return {"rate": done / (time.perf_counter() - start), "difference": difference}


def _embed_of(
    method: str,
    model: EmbeddingModel,
    device: torch.device,
    folder: Path,
    threads: int,
    auto: torch.dtype,
) -> Embed:
    formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    if method in runtime.START:
        dtype = auto if method == "openvino" else torch.float32
        return runtime.START[method](folder / "model.onnx", threads, dtype)
    if method == NAIVE:
        return embed_with(model, device, torch.contiguous_format, torch.float32)
    if method == "torch folded":
        folded = copy.deepcopy(model)
        folded.backbone = fuse(folded.backbone.eval())
        return embed_with(folded, device, torch.channels_last, auto)
    _, layout, precision = method.split()
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    return embed_with(model, device, formats[layout], dtype)


def _timed_ours(
    model: EmbeddingModel,
    matrix: np.ndarray,
    batch: int,
    method: str,
    seconds: float,
    expected: np.ndarray,
) -> dict[str, float]:
    device = model.mean.device
    dtype = devices.compute_dtype(device, "auto")
    embedder: runtime.Embedder = model
    if method == COMPILED:
        compile_backbone(model)
    elif method == AUTO:
        _, embedder = runtime.fastest(model, dtype)
    rows = np.arange(1 << 24) % len(matrix)
    blocks = embedding_blocks(embedder, matrix, rows, batch, dtype, method)
    # A block is returned when the next one has been embedded, so start timing after the first.
    _, first = next(blocks)
    start, done = time.perf_counter(), 0
    for _, embeddings in blocks:
        done += len(embeddings)
        if time.perf_counter() - start >= seconds:
            break
    rate = done / (time.perf_counter() - start)
    n = min(len(first), len(expected))
    return {"rate": rate, "difference": float(np.abs(first[:n] - expected[:n]).max())}


def _timed_resident(
    model: EmbeddingModel, matrix: np.ndarray, batch: int, seconds: float
) -> dict[str, float]:
    device = model.mean.device
    images = torch.from_numpy(matrix[:batch].copy()).to(device)
    dtype = devices.compute_dtype(device, "auto")
    with devices.autocast(device, dtype):
        model(images)
        roofline.wait_for(device)
        start, done = time.perf_counter(), 0
        while not done or time.perf_counter() - start < seconds:
            for _ in range(10):
                model(images)
            roofline.wait_for(device)
            done += 10 * len(images)
    return {"rate": done / (time.perf_counter() - start), "difference": 0.0}


def measure(arch: str, args: argparse.Namespace, folder: Path) -> list[results.Row]:
    """Measure all variants of one network in turns, each in its own process."""
    device = devices.choose(args.device)
    variants = methods(device, arch, args.batches, args.quick)
    if any(variant["method"] in runtime.START for variant in variants):
        onnx.export(roofline.make_model(arch, args.side).eval(), folder / "model.onnx")
    common = {"folder": str(folder), "arch": arch, "device_name": args.device}
    differences: dict[str, float] = {}
    peaks: dict[str, float] = {}

    def once(variant: dict[str, Any]) -> float:
        options = {**variant, **common, "seconds": args.seconds, "n_thread": args.threads}
        answer, usage = measured_process.call(timed, args.threads, **options)
        differences[str(variant)] = answer["difference"]
        peaks[str(variant)] = usage.peak_bytes / 1e6
        return answer["rate"]

    calls = {str(variant): partial(once, variant) for variant in variants}
    rates = by_turns(calls, args.repeats, warm_up=0)
    naive = median(rates[str(variants[0])])
    flops = roofline.flops_per_image(roofline.make_model(arch, args.side), args.side, False)
    peak = roofline.matmul_flops(device, devices.compute_dtype(device, "auto"))
    return [
        {
            "device": roofline.device_name(device, provenance.processor()),
            "network": arch,
            "side_px": args.side,
            **variant,
            "images_per_s": median(rates[str(variant)]),
            "spread_%": spread(rates[str(variant)]),
            "times_naive": median(rates[str(variant)]) / naive,
            "share_of_matmul_peak": median(rates[str(variant)]) * flops / peak,
            "largest_difference": differences[str(variant)],
            "peak_MB": peaks[str(variant)],
        }
        for variant in variants
    ]


def run(args: argparse.Namespace) -> None:
    """Measure all networks and publish the table."""
    if args.quick:
        args.networks, args.repeats, args.seconds = args.networks[:1], 1, min(args.seconds, 1.0)
    record = results.Run("encode", args, args.output)
    rows: list[results.Row] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        roofline.write_images(Path(folder) / "images.npy", args.images, args.side)
        for arch in args.networks:
            rows += measure(arch, args, Path(folder))
    record.publish(args.name, rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--networks", nargs="+", default=["resnet18", "resnet50"], help="backbones")
    add("--side", type=int, default=224, help="side of the images in pixels")
    add("--batches", type=int, nargs="+", default=[8, 16, 64], help="batch sizes")
    add("--images", type=int, default=512, help="images in the file")
    add("--seconds", type=float, default=10.0, help="seconds per measurement")
    add("--repeats", type=int, default=3, help="measurements per variant")
    add("--device", default="cpu", help="cpu, cuda or cuda:n")
    add("--quick", action="store_true", help="first network only, one second per variant")
    add("--name", default="encode", help="name of the csv file")
    add("--folder", type=Path, help="parent of the temporary image folder")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
