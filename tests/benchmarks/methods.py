"""What each CAM method costs against `predict` of the same version, and how much memory it takes beyond it.

`make bench` prints the table. Seconds are those of this run alone, the sides in turn; ratios are medians of the rounds.
Run with names of `keras.applications` to measure others: python tests/benchmarks/methods.py ResNet50.
"""

import json
import statistics
import sys
import tempfile

from benchmarks.measuring import batch, forget_peak, highest, in_fresh_process, one_round, resident, run_task

ARCHITECTURES = {"ResNet50": "caffe", "VGG16": "caffe"}
ROUNDS = 15


def export(name: str, directory: str) -> dict:
    """Export the conditioned network with every method that fits its head."""
    from conditioned import application
    from gradcam_export import ExplanationError, export_classifier, inspect_classifier
    from gradcam_export.methods import METHODS

    model, _ = application(name)
    methods = ["gradcam", *(method for method in METHODS if method not in ("gradcam", "cam"))]
    try:
        inspect_classifier(model, method="cam")
        methods.append("cam")
    except ExplanationError as error:
        print(error, file=sys.stderr, flush=True)
    published = export_classifier(model, directory, method=methods, preprocessing=ARCHITECTURES.get(name))
    return {"path": str(published.path), "signatures": signatures(methods)}


def signatures(methods: list) -> dict:
    """Return the signature of each method."""
    from gradcam_export.contract import EXPLAIN, TOP_K, explain_signature

    return {"top_k": TOP_K} | {
        method: explain_signature(method) if place else EXPLAIN for place, method in enumerate(methods)
    }


def requests(loaded, size: int) -> dict:
    """Return the inputs of `predict`, and those of `explain`."""
    import numpy as np

    images = batch(loaded, size)
    return {"images": images["images"], "class_index": np.full(size, -1, np.int32)}


def speed(path: str, named: dict) -> dict:
    """Return the median ratio of each method to `predict`, at B=1."""
    from gradcam_export.methods import METHODS
    from gradcam_export.savedmodel.session import LoadedVersion

    loaded = LoadedVersion.load(path)
    given = requests(loaded, 1)
    ratios = {}
    for method, signature in named.items():
        sides = {"predict": (loaded, "predict"), method: (loaded, signature)}
        inputs = {"predict": {"images": given["images"]}, method: given}
        if method == "top_k":
            inputs[method] = inputs["predict"]
        dear = method in METHODS and METHODS[method].alters and method != "faster-scorecam"
        if dear:
            # One call takes as long as hundreds of predictions: those around it tell what one takes.
            alone = {"predict": sides["predict"]}
            usual = [one_round(alone, inputs)["predict"] for _ in range(ROUNDS)]
            ratios[method] = one_round(sides, inputs)[method] / statistics.median(usual)
            continue
        one_round(sides, inputs)
        rounds = [one_round(sides, inputs) for _ in range(ROUNDS)]
        ratios[method] = statistics.median(times[method] / times["predict"] for times in rounds)
    return ratios


def memory(path: str, signature: str) -> dict:
    """Return the most memory that one call takes beyond what the process holds after a prediction, in bytes."""
    from gradcam_export.savedmodel.session import LoadedVersion

    loaded = LoadedVersion.load(path)
    given = requests(loaded, 1)
    images = {"images": given["images"]}
    loaded.run("predict", images)
    before = resident()
    forget_peak()
    loaded.run(signature, images if signature in ("top_k", "predict") else given)
    return {"bytes": max(0, highest() - before)}


def main() -> None:
    """Measure every method, and print the table."""
    if run_task(globals()):
        return
    names = sys.argv[1:] or ARCHITECTURES
    rows: dict = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            print(f"measuring the methods on {name} …", file=sys.stderr, flush=True)
            made = in_fresh_process(__file__, "export", name, f"{directory}/{name}")
            for method, ratio in in_fresh_process(__file__, "speed", made["path"], made["signatures"]).items():
                taken = in_fresh_process(__file__, "memory", made["path"], made["signatures"][method])["bytes"]
                rows.setdefault(method, {})[name] = f"{ratio:.2f} · {taken / 2**20:.0f} MB"
                print(json.dumps({method: rows[method][name]}), file=sys.stderr, flush=True)
    print("\nOne answer at B=1 relative to `predict`, and its peak memory beyond it\n")
    print("| method | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|")
    for method, cells in rows.items():
        print(f"| {method} | " + " | ".join(cells.get(name, "refused") for name in names) + " |")


if __name__ == "__main__":
    main()
