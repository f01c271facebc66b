"""What changed, summed up per class and overall, and held against limits."""

import re

import pytest
from gradcam_export.checks.drift.limits import Limits, breaches_of, option
from gradcam_export.checks.drift.statistics import ImageDrift, groups_of, worst_first


def drift(file, old, new, scores=(0.9, 0.9), maps=(1.0, 1.0, 0.0)):
    correlation, iou, shift = maps
    return ImageDrift(
        file=file,
        old_label=old,
        new_label=new,
        old_score=scores[0],
        new_score=scores[1],
        correlation=correlation,
        iou=iou,
        shift=shift,
    )


def gone(file, old, new):
    return drift(file, old, new, (0.5, None), (None, None, None))


IMAGES = [
    drift("a", "rose", "rose", (0.9, 0.8), (0.0, 0.1, 0.5)),
    drift("b", "rose", "rose", (0.5, 0.9), (-0.5, 0.3, 0.3)),
    drift("c", "tulip", "rose", (0.6, 0.6), (1.0, 1.0, 0.0)),
    drift("d", "tulip", "tulip", (0.7, 0.7), (0.5, 0.8, 0.1)),
    gone("e", "daisy", "tulip"),
]


def test_figures_are_those_of_numpy_by_hand():
    overall = groups_of(IMAGES)[0]
    assert (overall.label, overall.images, overall.flips, overall.flip_share) == (None, 5, 2, 0.4)
    found = overall.statistics["score_drift"]
    assert (found.mean, found.median, found.worst) == pytest.approx((0.5 / 4, 0.05, 0.4))
    # The 95th percentile between the two largest, 0.1 and 0.4, at 0.95 * 3 = 2.85.
    assert found.p95 == pytest.approx(0.1 + 0.85 * 0.3)
    overlap = overall.statistics["iou"]
    assert (overlap.mean, overlap.median, overlap.worst) == pytest.approx((0.55, 0.55, 0.1))
    # Where high is good, 95 % are no worse than the 5th percentile: between 0.1 and 0.3 at 0.15.
    assert overlap.p95 == pytest.approx(0.1 + 0.15 * 0.2)


def test_classes_come_with_the_least_alike_maps_first_and_those_that_are_gone_before_them():
    groups = groups_of(IMAGES)
    assert [group.label for group in groups] == [None, "daisy", "rose", "tulip"]
    assert [group.images for group in groups] == [5, 1, 2, 2]
    assert [group.flips for group in groups] == [2, 1, 0, 1]
    assert groups[1].statistics == dict.fromkeys(("score_drift", "correlation", "iou", "shift"))
    assert groups[2].statistics["correlation"].mean == pytest.approx(-0.25)


def test_the_worst_images_are_those_whose_maps_have_least_in_common():
    tie = drift("f", "rose", "rose", maps=(-0.5, 0.1, 0.5))
    assert [image.file for image in worst_first([*IMAGES, tie])] == ["f", "a", "b", "d", "c"]


def test_without_limits_nothing_is_broken():
    assert breaches_of(groups_of(IMAGES), Limits()) == ()
    assert Limits().asked == {}


@pytest.mark.parametrize(
    ("name", "holds", "breaks", "message"),
    [
        ("max_flips", 0.4, 0.39, r"2 of 5 predictions flip \(0\.4\), more than --max-flips 0\.39"),
        (
            "max_score_drift",
            0.126,
            0.124,
            r"mean score drift is 0\.125 over 5 .* than --max-score-drift 0\.124",
        ),
        ("min_iou", 0.549, 0.551, r"mean IoU of the hottest 20 % is 0\.55 over 5 images, less than --min-iou 0\.551"),
        ("min_correlation", 0.25, 0.251, r"mean heatmap correlation is 0\.25 .* less than --min-correlation 0\.251"),
        ("max_shift", 0.226, 0.224, r"mean shift of the centre is 0\.225 over 5 images, more than --max-shift 0\.224"),
    ],
)
def test_each_limit_holds_up_to_its_value_and_says_what_broke_it(name, holds, breaks, message):
    groups = groups_of(IMAGES)
    assert breaches_of(groups, Limits(**{name: holds})) == ()
    (breach,) = breaches_of(groups, Limits(**{name: breaks}))
    assert (breach.limit, breach.label) == (name, None)
    assert re.fullmatch(message, breach.message)


def test_per_class_a_limit_holds_for_each_class_by_itself():
    groups = groups_of(IMAGES)
    asked = Limits(min_iou=0.5, max_flips=0.45, per_class=True)
    found = [(breach.label, breach.limit, breach.found) for breach in breaches_of(groups, asked)]
    assert found == [
        ("daisy", "max_flips", 1.0),
        ("daisy", "min_iou", None),
        ("rose", "min_iou", pytest.approx(0.2)),
        ("tulip", "max_flips", 0.5),
    ]
    messages = [breach.message for breach in breaches_of(groups, asked)]
    assert messages[1].startswith("class 'daisy': IoU of the hottest 20 % is unknown, since the new version has no")
    assert messages[2] == "class 'rose': mean IoU of the hottest 20 % is 0.2 over 2 images, less than --min-iou 0.5"
    assert breaches_of(groups, Limits(min_iou=0.5, max_flips=0.45)) == ()


def test_what_nothing_could_be_measured_of_breaks_its_limit():
    (breach,) = breaches_of(groups_of([gone("e", "daisy", "tulip")]), Limits(min_correlation=-1))
    assert breach.found is None
    assert "--min-correlation -1 does not hold" in breach.message


def test_limits_are_named_by_their_options():
    assert option("max_score_drift") == "--max-score-drift"
