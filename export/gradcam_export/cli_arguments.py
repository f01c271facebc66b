"""What the commands of `gradcam-export` take."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path
from typing import Any

from gradcam_export.options import Batching, Method, Precision, ScoreKind, WeightStorage, choices


def image_size(text: str) -> tuple[int, ...]:
    """Read `HxW`, or as many sizes as an input has axes."""
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW, like 224x224") from error


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not N,N,…, like 1,2,4,8") from error


def factory_arg(text: str) -> tuple[str, Any]:
    """Read `NAME=VALUE`, the value as Python writes it, or else as text."""
    name, separator, value = text.partition("=")
    if not (name.isidentifier() and separator):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, like weights=none")
    words = {"none": None, "true": True, "false": False}
    if value.lower() in words:
        return name, words[value.lower()]
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the classifier, and how it is explained."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a .keras or .h5 file, or package.module:factory")
    add("--preprocessing", metavar="MODE", help="none, tf, torch, caffe, unit, or package.module:function")
    add("--image-size", type=image_size, metavar="HxW", help="where the model leaves its size open")
    add("--layer", metavar="NAME", help="the layer to explain, nested as outer/inner")
    add("--output", metavar="NAME", help="which of several outputs holds the class scores")
    add("--method", choices=choices(Method), action="append", help="CAM method; further ones: explain_<method>")
    add("--top-k", type=int, default=5, metavar="T", help="how many classes the signature top_k explains")
    add("--labels", type=Path, metavar="FILE", help="class names, one a line")
    add("--score", choices=choices(ScoreKind), default="logit", help="what the heatmap explains")
    add(
        "--factory-arg",
        type=factory_arg,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for the factory",
    )
    add("--no-safe-mode", dest="safe_mode", action="store_false", help="run code stored inside a .keras file")


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where a version goes, and how it is written."""
    add = parser.add_argument
    add("base_path", metavar="BASE_PATH", help="where the model's versions lie: models/flowers, gs://bucket/flowers")
    add("--chunk", type=int, default=32, metavar="N", help="altered inputs at once in Score-CAM and Ablation-CAM")
    add("--weights", choices=choices(WeightStorage), default="variables", help="how weights are stored")
    add("--precision", choices=choices(Precision), default="float32", help="of the layers; --images decide on halves")
    add("--batching", choices=choices(Batching), default="in-graph", help="who merges requests into batches")
    add("--max-batch-size", type=int, default=16, metavar="N", help="most rows of a batch; larger requests are split")
    add("--batch-timeout-micros", type=int, default=0, metavar="N", help="how long a request waits for others")
    add("--batch-threads", type=int, default=1, metavar="N", help="how many batches are computed at once")
    add("--allowed-batch-sizes", type=_sizes, metavar="N,N,…", help="what batches are padded to")
    add("--max-image-bytes", type=int, default=20_000_000, metavar="N", help="of an encoded image; 0: takes none")
    add("--max-image-pixels", type=int, default=40_000_000, metavar="N", help="of an encoded image, by its header")
    add("--images", type=Path, metavar="DIR", help="images to verify with, instead of synthetic ones")
    add("--sbom", type=Path, metavar="FILE", help="write what the version was made with, as CycloneDX JSON")
    add("--version", type=int, metavar="N", help="version number, instead of the next free one")


def add_publish_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is published, where, and as what."""
    add = parser.add_argument
    add("version_dir", type=Path, metavar="VERSION_DIR", help="a version that build published, like models/flowers/3")
    add("target", metavar="TARGET", help="another base path, or its URL: gs://…, s3://…, file://…")
    add("--version", type=int, metavar="N", help="version number, instead of the next free one")


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which models are served, and where."""
    add = parser.add_argument
    add("base_path", nargs="?", type=Path, metavar="BASE_PATH", help="where the model's versions lie")
    add("--model-name", metavar="NAME", help="what requests call it; by default the last part of BASE_PATH")
    add(
        "--model-config-file",
        type=Path,
        metavar="FILE",
        help="several models, in TensorFlow Serving's own format",
    )
    add(
        "--model-config-file-poll-wait-seconds",
        type=float,
        default=0,
        metavar="S",
        help="how often that file is read again; 0, the default: never",
    )
    add(
        "--allow-version-labels-for-unavailable-models",
        action="store_true",
        help="a label not in use may name a version not loaded",
    )
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for other machines")
    add("--port", type=int, default=8500, help="of gRPC; 0 takes a free one")
    add("--rest-port", type=int, metavar="PORT", help="of REST, like 8501; no REST by default, 0 takes a free one")
    add("--ssl-config-file", type=Path, metavar="FILE", help="TLS for gRPC, in TensorFlow Serving's own format")
    add("--monitoring-config-file", type=Path, metavar="FILE", help="metrics on the REST port, in the same way")
