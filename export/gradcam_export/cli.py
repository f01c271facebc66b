"""The command `gradcam-export`; the only file that prints."""

from __future__ import annotations

import argparse
import ast
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from gradcam_export.errors import GradcamExportError, OptionError
from gradcam_export.options import Batching, Method, ScoreKind, WeightStorage, choices

INTERRUPTED = 130
_EXPORT_OPTIONS = (
    *("chunk", "weights", "images", "version", "max_image_bytes", "max_image_pixels"),
    *("batching", "max_batch_size", "batch_timeout_micros", "batch_threads", "allowed_batch_sizes"),
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code: 0 only when all that was asked was done."""
    parsed = _parser().parse_args(arguments)
    # Before TensorFlow is imported, which reads it then: its start-up notes are not for this command's users.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Keras reads it then too: whoever trains with another backend still exports with this one.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # TensorFlow's own remarks (that tf.compat.v1 is old, that an asset was written) would bury ours.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        parsed.run(parsed)
    except GradcamExportError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    return 0


def _build(parsed: argparse.Namespace) -> None:
    from gradcam_export.export import export_classifier

    # A terminated export cleans up behind itself like an interrupted one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    published = export_classifier(
        parsed.model,
        parsed.base_path,
        on_step=_Progress(),
        **_model_options(parsed),
        **_export_options(parsed),
    )
    explanation = published.manifest.explanation
    grid = "×".join(map(str, explanation["grid"]))
    _say(f"explains {explanation['layer']} ({grid}) with {', '.join(explanation['methods'])}")
    print(published.path)


def _inspect(parsed: argparse.Namespace) -> None:
    from gradcam_export.inspection import inspect_classifier

    inspection = inspect_classifier(parsed.model, **_model_options(parsed))
    print(inspection.to_json() if parsed.json else inspection)


def _serve(parsed: argparse.Namespace) -> None:
    from gradcam_export.server import ServedModel, read_model_config, read_monitoring_config, read_ssl_config, serve

    if (parsed.base_path is None) == (parsed.model_config_file is None):
        raise OptionError("serve needs either BASE_PATH or --model-config-file FILE.")
    if parsed.base_path is None:
        models = read_model_config(parsed.model_config_file)
    else:
        name = parsed.model_name or parsed.base_path.resolve().name
        models = (ServedModel(name=name, base_path=parsed.base_path),)
    names = ", ".join(model.name for model in models)

    def ready(port: int, rest_port: int | None) -> None:
        print(f"serving {names} on {parsed.host}:{port}", flush=True)
        if rest_port is not None:
            print(f"REST at http://{parsed.host}:{rest_port}/v1/models", flush=True)

    serve(
        models,
        port=parsed.port,
        host=parsed.host,
        rest_port=parsed.rest_port,
        ssl=parsed.ssl_config_file and read_ssl_config(parsed.ssl_config_file),
        metrics_path=parsed.monitoring_config_file and read_monitoring_config(parsed.monitoring_config_file),
        model_config_file=parsed.model_config_file,
        config_poll_seconds=parsed.model_config_file_poll_wait_seconds,
        unavailable_labels=parsed.allow_version_labels_for_unavailable_models,
        on_ready=ready,
    )


def _demo(parsed: argparse.Namespace) -> None:
    from gradcam_export.demo.road import run_demo

    run_demo(
        parsed.directory,
        model=parsed.model,
        images=parsed.images,
        labels=parsed.labels,
        report_line=partial(print, flush=True),
    )


class _Progress:
    """One line a step on stderr: its name while it runs, where that is a terminal, and its seconds when done."""

    def __call__(self, step: str, seconds: float | None) -> None:
        if seconds is not None:
            _say(f"{step:<10}{seconds:6.1f} s")
        elif sys.stderr.isatty():
            sys.stderr.write(f"{step} …\r")
            sys.stderr.flush()


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _model_options(parsed: argparse.Namespace) -> dict[str, Any]:
    return {
        "preprocessing": parsed.preprocessing,
        "image_size": parsed.image_size,
        "layer": parsed.layer,
        "output": parsed.output,
        "method": parsed.method or ("gradcam",),
        "score": parsed.score,
        "top_k": parsed.top_k,
        "labels": parsed.labels,
        "factory_args": dict(parsed.factory_arg),
        "safe_mode": parsed.safe_mode,
    }


def _export_options(parsed: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(parsed, name) for name in _EXPORT_OPTIONS}


def _image_size(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not HxW, like 224x224") from error


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not N,N,…, like 1,2,4,8") from error


def _factory_arg(text: str) -> tuple[str, Any]:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradcam-export",
        description="Turn a trained Keras classifier into a SavedModel that explains itself.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="export a classifier as the next version of a model")
    _add_model_arguments(build)
    _add_export_arguments(build)
    build.set_defaults(run=_build)
    inspect = commands.add_parser("inspect", help="show what would be explained, how, and what can go wrong")
    _add_model_arguments(inspect)
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.set_defaults(run=_inspect)
    serve = commands.add_parser("serve", help="serve models on this machine (production: TensorFlow Serving)")
    _add_serve_arguments(serve)
    serve.set_defaults(run=_serve)
    demo = commands.add_parser("demo", help="train, export, serve, explain and report, on handwritten digits")
    demo.add_argument("directory", type=Path, metavar="DIR", help="where everything is written")
    demo.add_argument("--model", help="your own classifier, instead of the digits'")
    demo.add_argument("--images", type=Path, metavar="DIR", help="your own images")
    demo.add_argument("--labels", type=Path, metavar="FILE", help="your own class names, one a line")
    demo.set_defaults(run=_demo)
    return parser


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a .keras or .h5 file, or package.module:factory")
    add("--preprocessing", metavar="MODE", help="none, tf, torch, caffe, unit, or package.module:function")
    add("--image-size", type=_image_size, metavar="HxW", help="where the model leaves its size open")
    add("--layer", metavar="NAME", help="the layer to explain, nested as outer/inner")
    add("--output", metavar="NAME", help="which of several outputs holds the class scores")
    add("--method", choices=choices(Method), action="append", help="CAM method; further ones: explain_<method>")
    add("--top-k", type=int, default=5, metavar="T", help="how many classes the signature top_k explains")
    add("--labels", type=Path, metavar="FILE", help="class names, one a line")
    add("--score", choices=choices(ScoreKind), default="logit", help="what the heatmap explains")
    add(
        "--factory-arg",
        type=_factory_arg,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for the factory",
    )
    add("--no-safe-mode", dest="safe_mode", action="store_false", help="run code stored inside a .keras file")


def _add_export_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "base_path",
        type=Path,
        metavar="BASE_PATH",
        help="where the model's versions lie, like models/flowers",
    )
    add("--chunk", type=int, default=32, metavar="N", help="altered inputs at once in Score-CAM and Ablation-CAM")
    add("--weights", choices=choices(WeightStorage), default="variables", help="how weights are stored")
    add("--batching", choices=choices(Batching), default="none", help="who merges requests into batches")
    add("--max-batch-size", type=int, default=32, metavar="N", help="most rows of a batch; larger requests are split")
    add("--batch-timeout-micros", type=int, default=0, metavar="N", help="how long a first row waits for others")
    add("--batch-threads", type=int, default=1, metavar="N", help="how many batches are computed at once")
    add("--allowed-batch-sizes", type=_sizes, metavar="N,N,…", help="what batches are padded to")
    add("--max-image-bytes", type=int, default=20_000_000, metavar="N", help="of an encoded image")
    add("--max-image-pixels", type=int, default=40_000_000, metavar="N", help="of an encoded image, by its header")
    add("--images", type=Path, metavar="DIR", help="images to verify with, instead of synthetic ones")
    add("--version", type=int, metavar="N", help="version number, instead of the next free one")


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
