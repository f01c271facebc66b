"""How good the explanations of every method are on the demo's digit scenes: the table of the README.

The demo's classifier is trained, or taken from DIR where it was trained before, exported with all methods, and
`gradcam-export evaluate` measures them on scenes whose boxes are known: python tests/benchmarks/quality.py [DIR]
SCENES sets how many. On two idle cores: two minutes to train, about a second a scene for all methods.
"""

import csv
import os
import sys
import tempfile
from pathlib import Path

SCENES = int(os.environ.get("SCENES", "100"))


def write_scenes(folder: Path, boxes: Path) -> None:
    """Write the demo's test scenes, and their boxes as CSV."""
    from gradcam_export.demo import scenes
    from gradcam_export.demo.road import TEST_SEED
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    _, test = scenes.load_digits()
    with boxes.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "label", "x", "y", "width", "height"])
        for index, scene in enumerate(scenes.draw_scenes(test, SCENES, TEST_SEED)):
            name = f"scene_{index:03}.png"
            Image.fromarray(scene.pixels).save(folder / name)
            box = scene.box
            rows.writerow([name, scenes.LABELS[scene.label], box.x, box.y, box.width, box.height])


def export(directory: Path) -> Path:
    """Train the demo's classifier, unless that was done, and export it with every method."""
    from gradcam_export import export_classifier
    from gradcam_export.demo import scenes
    from gradcam_export.demo.classifier import Recipe, prepare_classifier
    from gradcam_export.methods import METHODS

    train, _ = scenes.load_digits()
    model = directory / "classifier.keras"
    prepare_classifier(model, train, Recipe(), lambda line: print(line, file=sys.stderr, flush=True))
    methods = ["gradcam", *(method for method in METHODS if method != "gradcam")]
    return export_classifier(model, directory / "models" / "digits", labels=scenes.LABELS, method=methods).path


def main() -> None:
    """Measure every method, and print the table."""
    from gradcam_export.cli import main as command

    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        directory.mkdir(parents=True, exist_ok=True)
        images, boxes, table = directory / f"scenes_{SCENES}", directory / "boxes.csv", directory / "quality.md"
        write_scenes(images, boxes)
        version = export(directory)
        given = ["evaluate", str(version), "--images", str(images), "--boxes", str(boxes)]
        files = ["--markdown", str(table), "--html", str(directory / "quality.html")]
        if command([*given, *files, "--report", str(directory / "quality.json")]):
            sys.exit(1)
        print(table.read_text("utf-8"))


if __name__ == "__main__":
    main()
