"""Checks of metrics: one value an image, best where output and reference are equal, and in the stated direction."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UndefinedScoreError
from ..plugins import FAULTS, describe_exception
from ..specs import MetricSpec
from .outcome import Failed, NotApplicable, listed, promise, require
from .subject import Subject

NOISE = (2, 8, 32)
"""Deviations, in 8-bit levels, of what is added to a reference."""
SIDES = (64, 192, 384)
"""Of the images that a metric is tried with: the first that it is defined for."""


def references(subject: Subject, count: int = 2, side: int = 0) -> torch.Tensor:
    """Return smooth pictures as the metric's domain has them: (N, 1 or 3, side, side), rounded to 8 bits.

    Args:
        side: by default the least of some that the metric is defined for.
    """
    spec, side = _spec(subject), side or side_of(subject)
    channels = 3 if spec.domain == "rgb" else 1
    coarse = torch.rand(count, channels, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)
    return _rounded(smooth, spec)


def side_of(subject: Subject) -> int:
    """Return the side of the images that a metric is tried with; some, of several scales, need large ones."""
    if "side" not in subject.memo:
        subject.memo["side"] = SIDES[0]
        metric = _built(subject)
        for side in SIDES:
            subject.memo["side"] = side
            hr = references(subject, 1, side)
            try:
                with torch.inference_mode():
                    metric(degraded(subject, hr, NOISE[1]), hr)
            except UndefinedScoreError:
                continue
            except FAULTS:  # which the checks then tell of
                subject.memo["side"] = SIDES[0]
            break
    return int(subject.memo["side"])


def degraded(subject: Subject, hr: torch.Tensor, levels: int) -> torch.Tensor:
    """Return a reference with noise."""
    noise = torch.randn(hr.shape, generator=torch.Generator().manual_seed(levels))
    return _rounded((hr.float() + levels / 255 * noise).clamp(0, 1), _spec(subject))


def _wrong(subject: Subject, hr: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return outputs that any metric sees are wrong: noise on one side alone."""
    noise = (degraded(subject, hr, NOISE[-1]) - hr).abs()
    return {
        f"one that is too {word}": _rounded((hr + sign * noise).clamp(0, 1), _spec(subject))
        for word, sign in (("bright", 1), ("dark", -1))
    }


def _blurred(subject: Subject, hr: torch.Tensor) -> torch.Tensor:
    """Return a reference without its details."""
    side = hr.shape[-1]
    small = F.adaptive_avg_pool2d(hr, 4)
    return _rounded(F.interpolate(small, (side, side), mode="bilinear").clamp(0, 1), _spec(subject))


def _rounded(image: torch.Tensor, spec: MetricSpec) -> torch.Tensor:
    return (image * 255).round().to(torch.float32 if spec.domain == "rgb" else torch.float64) / 255


def _spec(subject: Subject) -> MetricSpec:
    assert isinstance(subject.spec, MetricSpec)
    return subject.spec


def _built(subject: Subject) -> Any:
    metric = subject.build()
    return metric.eval().requires_grad_(False) if isinstance(metric, nn.Module) else metric


def measure(subject: Subject, metric: Any) -> torch.Tensor:
    """Call a metric on two images and return the values, after looking at their shape."""
    hr = references(subject)
    return _values(metric, degraded(subject, hr, NOISE[1]), hr)


def _values(metric: Any, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        values = metric(sr, hr)
    require(
        isinstance(values, torch.Tensor), f"it returns {type(values).__name__}, not a tensor with a value an image."
    )
    require(
        tuple(values.shape) == (len(sr),) and values.is_floating_point(),
        f"for {len(sr)} images it returns {tuple(values.shape)} {values.dtype}; it must be ({len(sr)},), real.",
    )
    require(not torch.isnan(values).any(), "it returns NaN; where it is not defined it must raise UndefinedScoreError.")
    return cast(torch.Tensor, values)


@promise("one-value-an-image", "metric")
def one_value_an_image(subject: Subject) -> None:
    """One value an image, whatever else is in the batch."""
    metric, hr = _built(subject), references(subject)
    sr = torch.cat([degraded(subject, hr[:1], NOISE[0]), degraded(subject, hr[1:], NOISE[2])])
    together = _values(metric, sr, hr)
    alone = torch.cat([_values(metric, sr[i : i + 1], hr[i : i + 1]) for i in range(2)])
    require(
        torch.allclose(together, alone, rtol=1e-4, atol=1e-5),
        f"two images together score {together.tolist()}, and each alone {alone.tolist()}.",
    )
    require(torch.equal(together, _values(metric, sr, hr)), "the same images score differently the second time.")
    wider = (torch.cat([images, images[..., :9]], dim=-1) for images in (sr, hr))  # most images are not square
    _values(metric, *wider)


@promise("direction", "metric")
def direction(subject: Subject) -> str:
    """Best where output and reference are equal, worse with noise, in the stated range.

    A blur must not be better, though one that looks only at noise may find it as good. A shift is not tried, since a
    metric may well be blind to one.
    """
    spec, metric, hr = _spec(subject), _built(subject), references(subject)
    equal = _values(metric, hr.clone(), hr)
    scores = [float(equal.mean())]
    scores += [float(_values(metric, degraded(subject, hr, levels), hr).mean()) for levels in NOISE]
    low, high = spec.value_range
    outside = [s for s in scores if (low is not None and s < low - 1e-6) or (high is not None and s > high + 1e-6)]
    require(not outside, f"its spec says values lie in {spec.value_range}, but there are {listed(map(str, outside))}.")
    if not spec.full_reference:
        require(
            _blind(metric, hr, equal),
            "its spec says full_reference=False, but the same output scores differently beside another reference; "
            "leave that out, and say by higher_is_better which way is better.",
        )
        raise NotApplicable("it looks at the output alone, so equal images are not its best (full_reference=False).")
    shown = ", ".join(f"{score:.4g}" for score in scores)
    signed = scores if spec.higher_is_better else [-score for score in scores]
    word = "higher" if spec.higher_is_better else "lower"
    if signed[0] < max(signed):
        rising = all(one <= other for one, other in itertools.pairwise(signed))
        advice = f" Say higher_is_better={not spec.higher_is_better}." if rising else ""
        if _blind(metric, hr, equal):
            advice = " It looks at the output alone; say full_reference=False."
        raise Failed(
            f"its spec says that {word} is better, but equal images and then more and more noise score {shown}.{advice}"
        )
    falling = all(one >= other for one, other in itertools.pairwise(signed))  # what nobody sees may cost nothing
    require(
        falling and signed[-2] > signed[-1],
        f"its spec says that {word} is better, but more and more noise scores {shown}.",
    )
    sign = 1 if spec.higher_is_better else -1
    for what, sr in _wrong(subject, hr).items():
        score = float(_values(metric, sr, hr).mean())
        require(sign * score < signed[0], f"{what} scores {score:.4g}, and the reference itself {scores[0]:.4g}.")
    with suppress(UndefinedScoreError):
        score = float(_values(metric, _blurred(subject, hr), hr).mean())
        require(
            sign * score <= signed[0] + 1e-5 * max(1.0, abs(signed[0])),
            f"a blurred output scores {score:.4g}, better than the reference itself with {scores[0]:.4g}.",
        )
    return shown


def _blind(metric: Any, hr: torch.Tensor, equal: torch.Tensor) -> bool:
    """Whether a metric that gave values to references themselves gives the same beside each other's reference."""
    return torch.allclose(_values(metric, hr.clone(), hr.flip(0)), equal)


@promise("undefined", "metric")
def undefined(subject: Subject) -> str:
    """Where it is not defined it says so, as perhaps for tiny or flat images."""
    metric, hr, tiny = _built(subject), references(subject), references(subject, 1, 4)
    black = torch.zeros_like(hr)
    seen = []
    for what, sr, reference in (
        ("4x4 pixels", degraded(subject, tiny, NOISE[1]), tiny),
        ("a black output", black, hr),
        ("a black reference", hr, black),
        ("two black images", black.clone(), black),
    ):
        try:
            _values(metric, sr.clone(), reference.clone())
        except UndefinedScoreError as error:
            seen.append(f"{what}: {error}")
        except Failed as failure:
            raise Failed(f"for {what}, {failure}") from failure
        except FAULTS as error:
            raise Failed(
                f"for {what} it raises {describe_exception(error)}; raise srzoo.errors.UndefinedScoreError where it is "
                "not defined."
            ) from error
    return listed(seen, 2) or "tiny and flat images have a score"


@promise("prepared-reference", "metric")
def prepared(subject: Subject) -> None:
    """A prepared reference gives the same values."""
    metric = _built(subject)
    if not (hasattr(metric, "reference") and hasattr(metric, "against")):
        raise NotApplicable("it prepares nothing of a reference.")
    hr = references(subject)
    with torch.inference_mode():
        ready = metric.reference(hr)
        for levels in NOISE:  # the prepared reference serves several outputs, so using it must not change it
            sr = degraded(subject, hr, levels)
            two_steps, one_step = metric.against(sr, ready), metric(sr, hr)
            require(
                torch.allclose(two_steps, one_step, rtol=1e-5, atol=1e-6),
                f"against(sr, reference(hr)) is {two_steps.tolist()}, metric(sr, hr) {one_step.tolist()}.",
            )


CHECKS = (
    one_value_an_image,
    direction,
    undefined,
    prepared,
)
