"""The command `gradcam-export`; the only file that prints."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcam_export.cli_arguments import (
    add_export_arguments,
    add_model_arguments,
    add_publish_arguments,
    add_serve_arguments,
)
from gradcam_export.commands import compare, evaluate, verify
from gradcam_export.errors import GradcamExportError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcam_export.commands.judgement import Judgement

INTERRUPTED = 130
_EXPORT_OPTIONS = (
    *("chunk", "weights", "precision", "images", "version", "max_image_bytes", "max_image_pixels"),
    *("batching", "max_batch_size", "batch_timeout_micros", "batch_threads", "allowed_batch_sizes"),
)
_JUDGING = (
    ("verify", verify, "check a published version: values, labels, packaging, serving"),
    ("compare", compare, "show what changed between two versions"),
    ("evaluate", evaluate, "measure how good the explanations are"),
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
        return parsed.run(parsed) or 0
    except GradcamExportError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED


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
    if parsed.sbom:
        from gradcam_export.savedmodel.bill_of_materials import write_bill_of_materials

        write_bill_of_materials(published.manifest, parsed.sbom)
    explanation = published.manifest.explanation
    grid = "×".join(map(str, explanation["grid"]))
    _say(f"explains {explanation['layer']} ({grid}) with {', '.join(explanation['methods'])}")
    print(published.location)


def _inspect(parsed: argparse.Namespace) -> None:
    from gradcam_export.inspection import inspect_classifier

    inspection = inspect_classifier(parsed.model, **_model_options(parsed))
    print(inspection.to_json() if parsed.json else inspection)


def _publish(parsed: argparse.Namespace) -> None:
    from gradcam_export.savedmodel.publish import publish_version

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(publish_version(parsed.version_dir, parsed.target, version=parsed.version))


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


def _judge(run: Callable[[argparse.Namespace, Callable[[str], None]], Judgement], parsed: argparse.Namespace) -> int:
    judgement = run(parsed, _say)
    print(judgement.text)
    return 0 if judgement.passed else 1


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradcam-export",
        description="Turn a trained Keras classifier into a SavedModel that explains itself.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="export a classifier as the next version of a model")
    add_model_arguments(build)
    add_export_arguments(build)
    build.set_defaults(run=_build)
    inspect = commands.add_parser("inspect", help="show what would be explained, how, and what can go wrong")
    add_model_arguments(inspect)
    inspect.add_argument("--json", action="store_true", help="as JSON")
    inspect.set_defaults(run=_inspect)
    publish = commands.add_parser("publish", help="copy a finished version to another base path or an object store")
    add_publish_arguments(publish)
    publish.set_defaults(run=_publish)
    for name, command, what in _JUDGING:
        judging = commands.add_parser(name, help=what)
        command.add_arguments(judging)
        judging.set_defaults(run=partial(_judge, command.run))
    serve = commands.add_parser("serve", help="serve models on this machine (production: TensorFlow Serving)")
    add_serve_arguments(serve)
    serve.set_defaults(run=_serve)
    demo = commands.add_parser("demo", help="train, export, serve, explain and report, on handwritten digits")
    demo.add_argument("directory", type=Path, metavar="DIR", help="where everything is written")
    demo.add_argument("--model", help="your own classifier, instead of the digits'")
    demo.add_argument("--images", type=Path, metavar="DIR", help="your own images")
    demo.add_argument("--labels", type=Path, metavar="FILE", help="your own class names, one a line")
    demo.set_defaults(run=_demo)
    return parser


if __name__ == "__main__":
    sys.exit(main())
