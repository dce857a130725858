"""Statistics over rows: against known values, by simulation, and on what real tables are like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from srzoo.errors import DataError
from srzoo.leaderboard import seed_line
from srzoo.report import Row
from srzoo.statistics import (
    MIN_PAIRS,
    Comparison,
    compare,
    group_seeds,
    holm,
    images_needed,
    mean_interval,
    rank,
    select,
    untested_note,
    win_matrix,
)

# Areas under the curve of C4.5 and C4.5 with a tuned minimum of examples a leaf, on 14 data sets.
# Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006, table 2.
PLAIN = [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.940, 0.619, 0.972, 0.957]
TUNED = [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978]


def rows(scores: Mapping[str, Sequence[float]], metric: str = "psnr", dataset: str = "set") -> list[Row]:
    return [
        Row(entry, dataset, f"{index:03d}", metric, "y", float(value))
        for entry, values in scores.items()
        for index, value in enumerate(values)
    ]


def random_scores(images: int, *shifts: float, noise: float = 0.1) -> dict[str, list[float]]:
    """Entries e0, e1, ... that differ by the shifts, on images that differ by much more."""
    random = np.random.default_rng(3)
    base = random.normal(28, 4, images)
    return {f"e{k}": list(base + shift + random.normal(0, noise, images)) for k, shift in enumerate(shifts)}


# --- intervals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "least"), [(5, 0.88), (10, 0.9), (50, 0.9)])
def test_interval_holds_the_true_mean_about_as_often_as_it_says(images: int, least: float) -> None:
    """Of skewed scores; an interval that is not widened for five images holds it in 0.84 of the draws."""
    random = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        estimate = mean_interval(rows({"a": random.gamma(4.0, 0.5, images)}), "a")
        held += estimate.low <= 2.0 <= estimate.high
    assert least <= held / 300 <= 0.99


def test_interval_of_the_difference_holds_the_true_difference_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        base = random.normal(28, 4, 20)
        (found,) = compare(rows({"a": base + 5 + random.normal(0, 0.3, 20), "b": base}), True)
        held += found.low <= 5 <= found.high
    assert 0.90 <= held / 300 <= 0.99


def test_interval_is_near_students_for_normal_scores() -> None:
    values = np.random.default_rng(2).normal(30, 2, 200)
    estimate = mean_interval(rows({"a": values}), "a")
    low, high = stats.t.interval(0.95, 199, values.mean(), values.std(ddof=1) / math.sqrt(200))
    assert estimate.mean == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.03)


def test_interval_is_the_same_every_time() -> None:
    table = rows(random_scores(12, 0.0))
    assert mean_interval(table, "e0") == mean_interval(table, "e0")


@pytest.mark.parametrize("images", [1, 2, 4])
def test_interval_of_too_few_images_is_undefined(images: int) -> None:
    few = mean_interval(rows({"a": [30.0 + number for number in range(images)]}), "a")
    assert few.images == images and math.isnan(few.low) and math.isnan(few.high)


def test_interval_of_equal_images_is_a_point() -> None:
    equal = mean_interval(rows({"a": [30.0] * 8}), "a")
    assert (equal.low, equal.high) == (30, 30)


def test_undefined_scores_are_left_out() -> None:
    assert mean_interval(rows({"a": [1.0, math.nan, 3.0]}), "a").mean == 2
    nothing = mean_interval(rows({"a": [math.nan]}), "a")
    assert nothing.images == 0 and math.isnan(nothing.mean)
    assert mean_interval([], "a").images == 0


# --- paired comparison --------------------------------------------------------------------------------------


def test_wilcoxon_against_published_scores() -> None:
    (found,) = compare(rows({"plain": PLAIN, "tuned": TUNED}), True)
    assert (found.first, found.second, found.images) == ("tuned", "plain", 14)
    assert found.p is not None and found.p < 0.05, "the paper rejects at 0.05"
    assert found.p == found.p_holm, "one comparison needs no adjustment"
    assert not found.tied


@pytest.mark.parametrize("unequal", [1, 5, 6])
def test_equal_images_are_left_out_and_the_test_stays_exact(unequal: int) -> None:
    """Of twenty images five differ, all for one entry: p is 2/32, not the 0.043 of the normal approximation."""
    better = [30.0 + 0.1 * (image + 1) * (image < unequal) for image in range(20)]
    (found,) = compare(rows({"a": better, "b": [30.0] * 20}), True)
    assert found.p == pytest.approx(2 / 2**unequal)
    assert found.tied == (unequal < 6)


def test_wilcoxon_of_six_images_with_one_winner_is_two_in_sixty_four() -> None:
    (found,) = compare(rows({"a": [2, 3, 4, 5, 6, 8], "b": [1, 1, 1, 1, 1, 1]}), True)
    assert found.p == pytest.approx(2 / 64)


def test_pairing_sees_what_the_spread_between_images_hides() -> None:
    table = rows(random_scores(30, 0.0, 0.2))
    first, second = mean_interval(table, "e1"), mean_interval(table, "e0")
    assert first.low < second.high, "the two intervals overlap"
    (found,) = compare(table, True)
    assert found.difference == pytest.approx(0.2, abs=0.06) and 0 < found.low < found.high < 0.35
    assert not found.tied


def test_direction_decides_who_is_first_and_the_sign() -> None:
    table = rows(random_scores(30, 0.0, 0.2), metric="lpips")
    (found,) = compare(table, False)
    assert (found.first, found.second) == ("e0", "e1")
    assert found.difference < 0 and found.high < 0
    assert [place.entry for place in rank(table, False).places] == ["e0", "e1"]
    assert win_matrix(table, False).wins[0][1] > 0.8


def test_holm_against_a_worked_example() -> None:
    """Demsar 2006, section 3.2.2: of three classifiers the first two differ from the control, the third does not."""
    p_values = [float(2 * stats.norm.sf(z)) for z in (2.416, 2.342, 0.512)]
    assert p_values == pytest.approx([0.016, 0.019, 0.609], abs=6e-4)
    adjusted = holm(p_values)
    assert adjusted == pytest.approx([3 * p_values[0], 3 * p_values[0], p_values[2]], abs=1e-12)
    assert [p < 0.05 for p in adjusted] == [True, True, False]


def test_holm_in_any_order_never_above_one() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # as R's p.adjust
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_values_are_adjusted_over_the_neighbours() -> None:
    found = compare(rows(random_scores(20, 0.0, 1.0, 2.0, 3.0)), True)
    p_values = [comparison.p for comparison in found]
    assert len(found) == 3
    assert [comparison.p_holm for comparison in found] == pytest.approx(holm([p for p in p_values if p is not None]))


def test_ties_share_a_place() -> None:
    table = rows(random_scores(20, 2.0, 1.0, 1.0, 0.0, noise=0.05))
    places = rank(table, True).places
    assert [place.rank for place in places] == ["1", "2=", "2=", "4"]
    assert {places[1].entry, places[2].entry} == {"e1", "e2"}


def test_a_shared_place_ends_where_an_entry_falls_behind_its_first() -> None:
    """Each of these is as good as the next on half of the images; the last beats the first on none."""
    scores = {
        f"e{number}": [30.0 + image - 0.2 * number + (0.5 if (image + number) % 2 else 0.0) for image in range(12)]
        for number in range(4)
    }
    found = rank(rows(scores), True)
    assert all(comparison.tied for comparison in found.comparisons)
    assert [place.rank for place in found.places] == ["1=", "1=", "3=", "3="]
    assert all(best > third for best, third in zip(scores["e0"], scores["e2"], strict=True))


def test_identical_entries_are_tied() -> None:
    scores = random_scores(10, 0.0)["e0"]
    found = rank(rows({"a": scores, "b": scores}), True)
    (comparison,) = found.comparisons
    assert (comparison.p, comparison.p_holm, comparison.tied) == (1.0, 1.0, True)
    assert (comparison.difference, comparison.low, comparison.high) == (0, 0, 0)
    assert [(place.entry, place.rank) for place in found.places] == [("a", "1="), ("b", "1=")]
    assert win_matrix(rows({"a": scores, "b": scores}), True).wins[0][1] == 0.5


@pytest.mark.parametrize("images", [1, 2, MIN_PAIRS - 1])
def test_too_few_images_are_said_to_be_too_few(images: int) -> None:
    found = rank(rows(random_scores(images, 5.0, 0.0)), True)
    (comparison,) = found.comparisons
    assert comparison.p is None and comparison.p_holm is None and not comparison.tied
    assert comparison.verdict == f"too few images ({images})"
    assert [place.rank for place in found.places] == ["1", "2"]


def ladder(entries: int, images: int) -> list[Row]:
    """Each entry beats the next on every image, by 1 dB and a little more on each."""
    return rows({f"e{k:02d}": [30.0 - k * (1 + 0.01 * image) for image in range(images)] for k in range(entries)})


def test_what_no_scores_could_tell_apart_is_not_tested_and_shares_no_place() -> None:
    """Of nine images the least p is 2 / 512, and times 19 it is 0.07."""
    found = rank(ladder(20, 9), True)
    assert [place.rank for place in found.places] == [str(number) for number in range(1, 21)]
    assert not any(comparison.tied for comparison in found.comparisons)
    assert {comparison.verdict for comparison in found.comparisons} == {"too few images (9) for 19 comparisons"}
    note = "9 images are too few for 19 comparisons: the places are by the mean alone."
    assert untested_note({"psnr": found}) == f"{note} Give at least 10, or fewer entries."
    other = rank(ladder(3, 2), True)
    assert untested_note({"psnr": found, "ssim": found, "mos": other}).startswith(f"psnr, ssim: {note} Give")
    assert "mos: 2 images are too few to test" in untested_note({"psnr": found, "mos": other})


@pytest.mark.parametrize(("entries", "images"), [(13, 9), (20, 10), (2, MIN_PAIRS)])
def test_what_some_scores_could_tell_apart_is_tested(entries: int, images: int) -> None:
    found = rank(ladder(entries, images), True)
    assert all(comparison.p == pytest.approx(2 / 2**images) for comparison in found.comparisons)
    assert not any(comparison.tied for comparison in found.comparisons)
    assert untested_note({"psnr": found}) == ""


def test_images_needed_are_the_fewest_whose_least_p_is_below_the_level() -> None:
    for comparisons in range(1, 200):
        needed = images_needed(comparisons)
        assert 2 * comparisons / 2**needed < 0.05 <= 2 * comparisons / 2 ** (needed - 1)
    assert images_needed(0) == images_needed(1) == MIN_PAIRS


def test_few_images_are_tied_where_they_are_equal() -> None:
    assert [place.rank for place in rank(rows({"a": [1.0, 2.0], "b": [1.0, 2.0]}), True).places] == ["1=", "1="]


def test_untested_neighbours_do_not_count_in_the_adjustment() -> None:
    scores = random_scores(8, 2.0, 1.0)
    few = [Row("few", "set", f"{index:03d}", "psnr", "y", 1.0) for index in range(3)]
    found = compare([*rows(scores), *few], True)
    assert found[0].p == found[0].p_holm
    assert found[1].p is None


def test_an_undefined_score_takes_the_image_from_both() -> None:
    scores = random_scores(9, 0.0, 1.0)
    scores["e1"][4] = math.nan
    scores["e0"][4] = 1000.0  # decides the mean, and must not decide the comparison
    (found,) = compare(rows(scores), True)
    assert found.images == 8
    assert abs(found.difference) == pytest.approx(1.0, abs=0.2)
    assert win_matrix(rows(scores), True).images[0][1] == 8


def test_images_that_one_entry_lacks_are_left_out() -> None:
    scores = random_scores(9, 0.0, 1.0)
    table = [row for row in rows(scores) if not (row.entry == "e1" and row.image == "000")]
    (found,) = compare(table, True)
    assert found.images == 8
    none = compare([Row("a", "set", "1", "psnr", "y", 2.0), Row("b", "set", "2", "psnr", "y", 1.0)], True)
    assert none[0].images == 0 and math.isnan(none[0].difference) and none[0].p is None


def test_infinite_scores_are_compared_by_who_is_larger() -> None:
    """PSNR of a flawless image."""
    base = [30.0, 31.0, 32.0, 33.0, 34.0, 35.0, math.inf, math.inf]
    other = [value - 1 - index / 10 for index, value in enumerate(base[:6])] + [math.inf, 40.0]
    (found,) = compare(rows({"a": base, "b": other}), True)
    assert found.images == 8
    assert found.p == pytest.approx(2 / 128), "seven wins and one image that is equal"
    assert math.isnan(found.low)
    assert win_matrix(rows({"a": base, "b": other}), True).wins[0][1] == 7.5 / 8


def test_an_entry_without_a_defined_score_comes_last_and_has_no_place() -> None:
    places = rank(rows({"none": [math.nan] * 7, **random_scores(7, 0.0)}), True).places
    assert [(place.entry, place.rank) for place in places] == [("e0", "1"), ("none", "-")]


def test_one_entry_is_a_ranking_without_comparisons() -> None:
    found = rank(rows(random_scores(7, 0.0)), True)
    assert [place.rank for place in found.places] == ["1"] and found.comparisons == ()
    assert rank([], True).places == ()


def test_rows_that_are_not_comparable_are_refused() -> None:
    mixed = rows({"a": [1.0]}) + rows({"a": [1.0]}, metric="ssim")
    for function in (compare, rank, win_matrix):
        with pytest.raises(DataError, match="set/psnr/y and set/ssim/y"):
            function(mixed, True)
    with pytest.raises(DataError, match="two psnr scores for image '000'"):
        mean_interval(rows({"a": [1.0]}) * 2, "a")
    assert select(mixed, "set", "ssim") == rows({"a": [1.0]}, metric="ssim")


def test_a_verdict_is_text() -> None:
    known = {"first": "a", "second": "b", "difference": 1.0, "low": 0.5, "high": 1.5, "images": 20, "tied": False}
    assert Comparison(**known, p=0.0001, p_holm=0.0002).verdict == "p < 0.001"  # type: ignore[arg-type]
    assert Comparison(**known, p=0.02, p_holm=0.04).verdict == "p = 0.040"  # type: ignore[arg-type]


# --- win matrix, seeds --------------------------------------------------------------------------------------


def test_win_matrix_counts_images_and_ties_half() -> None:
    found = win_matrix(rows({"a": [1, 2, 3, 4], "b": [1, 1, 4, 3.5], "c": [0, 0, 0, 0]}), True)
    assert found.entries == ("a", "b", "c")
    assert found.wins[0][1] == 2.5 / 4 and found.wins[1][0] == 1.5 / 4
    assert found.wins[0][2] == 1 and found.wins[2][0] == 0
    assert all(math.isnan(found.wins[k][k]) for k in range(3))
    assert {count for line in found.images for count in line} == {4}


def test_seeds_of_a_recipe_are_mean_and_deviation_of_the_runs() -> None:
    table = rows(
        {"gan@seed0": [1, 3], "gan@seed1": [2, 4], "gan@seed12": [3, 8], "psnr@seed1": [1, 1], "other": [9, 9]}
    )
    gan, psnr = group_seeds(table)
    assert gan.recipe == "gan" and gan.means == {"gan@seed0": 2, "gan@seed1": 3, "gan@seed12": 5.5}
    assert gan.mean == 3.5
    assert gan.deviation == pytest.approx(math.sqrt((1.5**2 + 0.5**2 + 2**2) / 2))
    assert psnr.recipe == "psnr" and psnr.mean == 1 and math.isnan(psnr.deviation), "one run has no deviation"


def test_a_single_seed_has_no_deviation_in_words() -> None:
    """Two seeds that were benchmarked on different datasets."""
    (found, _) = group_seeds(
        rows({"a": [30.0]}) + rows({"b": [31.0]}, dataset="other"), {"a": "a and b", "b": "a and b"}
    )
    assert seed_line(found) == "a and b on set: psnr 30.00 of one seed, the others were not benchmarked on it"


def test_seeds_by_a_mapping_and_by_dataset_and_metric() -> None:
    table = rows({"a": [1.0], "b": [3.0], "c": [7.0]}) + rows({"a": [5.0], "b": [5.0]}, dataset="other")
    table += rows({"a": [math.nan, 0.5]}, metric="ssim")
    found = group_seeds(table, {"a": "recipe", "b": "recipe"})
    assert [(g.recipe, g.dataset, g.metric, g.mean) for g in found] == [
        ("recipe", "set", "psnr", 2.0),
        ("recipe", "other", "psnr", 5.0),
        ("recipe", "set", "ssim", 0.5),
    ]
    assert found[1].deviation == 0
