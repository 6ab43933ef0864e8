"""Models broken at random: refused, or loaded as what they say."""

from tests.train.fuzz_models import fuzz_models, within


def test_broken_models_are_refused_or_right():
    report = fuzz_models(2000)
    assert report.loaded > 50
    reasons = "\n".join(report.refused)
    for met in ("load unknown type", "load the arrays are not", "a header in JSON"):
        assert met in reasons
    assert report.slowest < 5


def test_the_check_knows_right_from_wrong():
    said = {"type": "Dense", "n_in": 4, "bias": True, "kernel": [1, 2]}
    assert within(said, {**said, "initializer": "zeros"})
    for wrong in ({"n_in": 5}, {"bias": 1}, {"bias": False}, {"kernel": [1, 3]}):
        assert not within(said, {**said, **wrong})
