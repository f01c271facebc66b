"""The gate: wrong values are refused by name, and nothing of them is published."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from classifiers import FAMILIES, photographs
from gradcam_export import VerificationError, export_classifier, module
from gradcam_export.checks import oracle
from gradcam_export.checks.heatmaps import ExpectedHeatmaps
from gradcam_export.graph import explain, fold
from gradcam_export.graph.folding import scales
from gradcam_export.graph.folding.editing import EditableGraph
from gradcam_export.methods.gradcam import GradCam
from lean import LEAN


@pytest.fixture
def model():
    return FAMILIES["functional"].model()


def refused(model, tmp_path, message: str) -> None:
    """Export `model`, and expect a refusal that leaves nothing behind."""
    with pytest.raises(VerificationError, match=message):
        export_classifier(model, tmp_path / "m", **LEAN)
    assert list((tmp_path / "m").iterdir()) == []


def test_a_perturbed_weight_is_refused_with_the_value_that_differs(model, tmp_path, monkeypatch):
    def perturbed(*arguments):
        folded = fold.fold(*arguments)
        name, value = max(folded.weights.items(), key=lambda weight: weight[1].size)
        return dataclasses.replace(folded, weights={**folded.weights, name: value * 1.01})

    monkeypatch.setattr("gradcam_export.export.fold", perturbed)
    refused(model, tmp_path, r"predictions\[\d,\d\] is 0\.\d+ instead of 0\.\d+ \(difference .*, tolerance 1e-05\)")


def test_a_map_without_relu_is_refused(model, tmp_path, monkeypatch):
    def unrectified(signed):
        peak = tf.reduce_max(tf.abs(signed), axis=1)
        return tf.math.divide_no_nan(signed, peak[:, None]), peak

    monkeypatch.setattr(explain, "normalise", unrectified)
    refused(model, tmp_path, r"heatmap of gradcam\[")


def test_a_map_normalised_over_the_batch_is_refused_as_row_dependence(model, tmp_path, monkeypatch):
    def by_batch(signed):
        raised = tf.nn.relu(signed)
        return raised / tf.reduce_max(raised), tf.reduce_max(raised, axis=1)

    monkeypatch.setattr(explain, "normalise", by_batch)
    refused(model, tmp_path, "rows depend on each other: heatmap of image")


def test_a_gradient_averaged_over_the_batch_is_refused(model, tmp_path, monkeypatch):
    def averaged(self, evidence):
        return tf.einsum("bpk,k->bp", evidence.features, tf.reduce_mean(evidence.gradients, axis=[0, 1]))

    monkeypatch.setattr(GradCam, "combine", averaged)
    refused(model, tmp_path, r"heatmap of gradcam\[")


def test_the_class_of_row_0_for_all_rows_is_refused(model, tmp_path, monkeypatch):
    from gradcam_export.graph.logits import Head

    first = Head.predicted_class
    monkeypatch.setattr(
        Head, "predicted_class", lambda self: tf.zeros_like(first(self)) + first(self)[0] + tf.constant(0)
    )
    # Live values go through the same rule, so what shows is that rows depend on each other.
    refused(model, tmp_path, "rows depend on each other|class_index")


def test_swapped_labels_are_refused(model, tmp_path, monkeypatch):
    class Swapped(module.ExplainableClassifier):
        def __init__(self, *arguments, labels, **keywords):
            super().__init__(*arguments, labels=[labels[1], labels[0], *labels[2:]], **keywords)

    monkeypatch.setattr("gradcam_export.export.ExplainableClassifier", Swapped)
    refused(model, tmp_path, "the graph holds other labels than the manifest: 'class_0' and 'class_1' are swapped")


def test_not_finite_values_are_refused(model, tmp_path):
    kernel, bias = model.get_layer("scores").get_weights()
    kernel[0, 0] = np.nan
    model.get_layer("scores").set_weights([kernel, bias])
    refused(model, tmp_path, "values that are not finite")


@pytest.mark.usefixtures("fresh_process")
def test_a_version_that_no_session_loads_is_refused(model, tmp_path, monkeypatch):
    from gradcam_export.savedmodel import write

    def without_variables(classifier, directory):
        write.write_saved_model(classifier, directory)
        for file in (directory / "variables").iterdir():
            file.write_bytes(b"?" * file.stat().st_size)

    monkeypatch.setattr("gradcam_export.export.write_saved_model", without_variables)
    refused(model, tmp_path, "does not run in a Session, so no server can serve it: .*")


def test_a_failing_warm_up_is_refused(model, tmp_path, monkeypatch):
    from gradcam_export.savedmodel import warmup

    def of_another_size(path, manifest):
        wrong = {**manifest.input, "shape": [8, 8, 3]}
        warmup.write_warmup(path, dataclasses.replace(manifest, input=wrong))

    monkeypatch.setattr("gradcam_export.export.write_warmup", of_another_size)
    refused(model, tmp_path, "the warm-up request of 'predict' fails")


def test_a_warm_up_that_leaves_out_a_signature_is_refused(model, tmp_path, monkeypatch):
    from gradcam_export.savedmodel import warmup

    def of_one_signature(path, manifest):
        warmup.write_warmup(path, manifest)
        first = next(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(first)

    monkeypatch.setattr("gradcam_export.export.write_warmup", of_one_signature)
    refused(model, tmp_path, "no request for describe, explain, serving_default, top_k")


def test_scales_folded_into_the_wrong_kernel_are_refused(model, tmp_path, monkeypatch):
    right = scales._scale_kernel
    monkeypatch.setattr(scales, "_scale_kernel", lambda graph, node, scale: right(graph, node, scale[..., ::-1]))
    refused(model, tmp_path, r"predictions\[")


def random_evidence(sign: float | None = None) -> dict[str, np.ndarray]:
    """Return what live values hold for a pooled head; `sign` gives all gradients that sign."""
    random = np.random.default_rng(0)
    features = np.abs(random.normal(size=(1, 16, 64)))
    gradients = np.broadcast_to(random.normal(size=(1, 1, 64)), features.shape)
    gradients = gradients if sign is None else sign * np.abs(gradients)
    return {"features": features, "gradients": gradients, "rounding": np.array(1e-5)}


def test_a_map_that_cancels_is_compared_with_what_float32_can_know():
    values = random_evidence()
    assert ExpectedHeatmaps(random_evidence(1)).slack("gradcam") == [1.0]
    assert ExpectedHeatmaps(random_evidence(-1)).slack("gradcam") == [1.0]
    # Gradients whose mean is all but zero: the map is the difference of far larger terms.
    alternating = np.where(np.arange(64) % 2, 1, -1) * np.ones((1, 16, 64))
    features = 1 + 1e-6 * values["features"]
    (slack,) = ExpectedHeatmaps({**values, "features": features, "gradients": alternating}).slack("gradcam")
    assert slack > 1000


def test_half_precision_is_compared_with_what_it_can_know():
    assert ExpectedHeatmaps(random_evidence(1)).tolerance == 1e-4
    assert ExpectedHeatmaps({**random_evidence(1), "rounding": np.array(2e-3)}).tolerance == 2e-2


def test_the_heatmap_check_finds_the_pixel_that_differs():
    values = random_evidence(1)
    found = oracle.heatmap("gradcam", values)
    found /= found.max()
    heatmaps = ExpectedHeatmaps(values)
    assert heatmaps.check("gradcam", found.reshape(1, 4, 4)).passed
    assert heatmaps.check("gradcam", found.reshape(1, 4, 4)).largest_difference == 0
    found[0, 6] += 2e-4
    check = heatmaps.check("gradcam", found.reshape(1, 4, 4))
    assert not check.passed
    assert check.message.startswith("heatmap of gradcam[0,1,2] is ")
    assert not heatmaps.check("gradcam", found.reshape(1, 4, 4)[:, :3]).passed


def test_an_unknown_method_has_no_formula():
    with pytest.raises(KeyError, match="smoothgrad"):
        oracle.heatmap("smoothgrad", random_evidence())


def test_good_images_of_a_folder_are_verified_with(model, tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(photographs(1)[0]).save(folder / "a.png")
    (folder / "notes.txt").write_text("not an image")
    published = export_classifier(model, tmp_path / "m", images=folder, **LEAN)
    assert published.path == tmp_path / "m" / "1"


def test_editable_graph_counts_uses():
    graph_def = tf.Graph().as_graph_def()
    a = graph_def.node.add(name="a", op="Const")
    graph_def.node.add(name="b", op="Identity", input=["a"])
    graph = EditableGraph(graph_def, {}, kept=["b"])
    assert graph.used_once(a)
    graph_def.node.add(name="c", op="Identity", input=["a:0", "^b"])
    assert not EditableGraph(graph_def, {}, kept=[]).used_once(a)
