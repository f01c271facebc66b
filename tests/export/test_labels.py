"""Class names: errors are found before any work is done."""

import pytest
from classifiers import FAMILIES
from gradcam_export import LabelsError, export_classifier, inspect_classifier
from gradcam_export.labels import labels_of, read_labels

REFUSED = pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "", "c"], "label 2 is ''; each must be one line of text"),
        (["a", " \t", "c"], r"label 2 is ' \\t'; each must be one line of text"),
        (["a", "b", "a"], r"repeated: 'a'\. Each class needs a name of its own"),
        ([*"abcdefg"] * 2, r"repeated: 'a', 'b', 'c', 'd', 'e'\. Each"),
    ],
)


@REFUSED
def test_names_that_cannot_be_labels_are_refused(names, message):
    with pytest.raises(LabelsError, match=f"^labels: {message}"):
        read_labels(names)


@REFUSED
def test_the_same_in_a_file_names_the_file(names, message, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(name.strip() for name in names))
    # A file's lines are stripped: a line of blanks is an empty one.
    with pytest.raises(LabelsError, match=rf"names\.txt: {message}".replace(r" \\t", "")):
        read_labels(tmp_path / "names.txt")


def test_a_label_of_two_lines_is_refused():
    with pytest.raises(LabelsError, match=r"labels: label 2 is 'b\\nc'; each must be one line of text"):
        read_labels(["a", "b\nc"])


def test_an_empty_line_in_a_file_is_refused_but_not_at_its_end(tmp_path):
    (tmp_path / "names.txt").write_text("a\n\nc\n\n\n")
    with pytest.raises(LabelsError, match=r"names\.txt: label 2 is ''"):
        read_labels(tmp_path / "names.txt")
    (tmp_path / "names.txt").write_text("a\nb\n\n\n")
    assert read_labels(str(tmp_path / "names.txt")) == ("a", "b")


def test_a_file_is_read_whatever_wrote_it(tmp_path):
    (tmp_path / "labels.txt").write_bytes("\ufeffchat\r\nhibou \nœuf\n\n".encode())
    assert read_labels(tmp_path / "labels.txt") == ("chat", "hibou", "œuf")


def test_unreadable_files_are_one_clear_line(tmp_path):
    with pytest.raises(LabelsError, match=r"missing\.txt: cannot be read as a file of labels: No such file"):
        read_labels(tmp_path / "missing.txt")
    with pytest.raises(LabelsError, match=r"cannot be read as a file of labels: Is a directory"):
        read_labels(tmp_path)
    (tmp_path / "latin.txt").write_bytes("Käfer\n".encode("latin-1"))
    with pytest.raises(LabelsError, match=r"latin\.txt: not UTF-8 text \(byte 1\)"):
        read_labels(str(tmp_path / "latin.txt"))


def test_no_labels_are_no_error():
    assert read_labels(None) is None
    assert labels_of(None, 3) == ("class_0", "class_1", "class_2")
    assert labels_of(("a", "b"), 2) == ("a", "b")


@pytest.mark.parametrize("names", [("a", "b"), ("a", "x", "y", "b")])
def test_another_number_of_names_than_classes_is_refused(names):
    with pytest.raises(LabelsError, match=rf"{len(names)} labels \('a' … 'b'\) for a classifier of 3 classes\."):
        labels_of(names, 3)


def test_a_file_of_no_labels_is_refused(tmp_path):
    (tmp_path / "names.txt").write_text("\n\n")
    with pytest.raises(LabelsError, match=r"names\.txt: there are none"):
        read_labels(tmp_path / "names.txt")
    with pytest.raises(LabelsError, match="labels: there are none"):
        read_labels([])


def test_labels_are_read_before_the_model_is_looked_for(tmp_path):
    refused = pytest.raises(LabelsError, match="labels: repeated: 'ant'")
    with refused:
        export_classifier(tmp_path / "missing.keras", tmp_path / "m", labels=["ant", "ant"])
    with pytest.raises(LabelsError, match="labels: repeated: 'ant'"):
        inspect_classifier(tmp_path / "missing.keras", labels=["ant", "ant"])
    assert list(tmp_path.iterdir()) == []


def test_labels_are_counted_before_anything_is_folded_or_written(tmp_path):
    steps = []
    with pytest.raises(LabelsError, match=r"labels: 2 labels \('ant' … 'bee'\) for a classifier of 5 classes"):
        export_classifier(
            FAMILIES["sequential"].model(),
            tmp_path / "m",
            labels=["ant", "bee"],
            on_step=lambda name, seconds: steps.append(name) if seconds is None else None,
        )
    assert steps == ["load", "trace", "choose"]
    assert not (tmp_path / "m").exists()
