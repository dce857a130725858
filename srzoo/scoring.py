"""Scoring images: the one place where an output meets its reference, for benchmark and validation alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .compose import create
from .data import ImageItem, ImageSet
from .errors import DataError, PluginError, UndefinedScoreError, WeightsError
from .images import round_to_uint8, to_tensor
from .inference import run_generator
from .plugins import describe_exception
from .protocol import Protocol, apply_protocol
from .registry import get_registry
from .specs import MetricSpec


@dataclass(frozen=True)
class Metric:
    """A metric ready to be used."""

    name: str
    spec: MetricSpec
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_metric(name: str, device: torch.device) -> Metric:
    """Build a metric by name.

    Raises:
        UnknownNameError: there is none of this name.
        MissingWeightsError: its backbone is not on this machine; says which file to put where.
    """
    component = get_registry().get("metric", name)
    assert isinstance(component.spec, MetricSpec)
    function = create("metric", name, where="metric")
    if isinstance(function, nn.Module):
        function = function.eval().requires_grad_(False).to(device)
    return Metric(component.name, component.spec, function)


def available_metrics(names: Sequence[str], device: torch.device) -> tuple[list[Metric], dict[str, str]]:
    """Return the metrics that can be computed here, and for each of the others the reason why not."""
    found, missing = [], {}
    for name in names:
        try:
            found.append(build_metric(name, device))
        except WeightsError as error:
            missing[name] = str(error)
    return found, missing


def score(
    sr: torch.Tensor, hr: torch.Tensor, metrics: Sequence[Metric], protocol: Protocol, scale: int, grey: bool
) -> dict[str, float]:
    """Score one output against its reference.

    Args:
        sr, hr: RGB (1, 3, H, W) uint8 on one device.
        grey: whether the reference is a grey image.

    Returns:
        metric name to value; NaN where a metric is not defined for this image.

    Raises:
        DataError: the sizes differ.
        PluginError: a metric fails or returns something else than one finite value an image.
    """
    if sr.shape != hr.shape:
        raise DataError(f"the output is {tuple(sr.shape)} and its reference {tuple(hr.shape)}.")
    inputs: dict[str, tuple[torch.Tensor, torch.Tensor] | None] = {"rgb": (sr.float() / 255.0, hr.float() / 255.0)}
    try:
        inputs["protocol"] = (apply_protocol(sr, protocol, scale, grey), apply_protocol(hr, protocol, scale, grey))
    except UndefinedScoreError:  # nothing is left inside the border
        inputs["protocol"] = None
    values = {}
    for metric in metrics:
        pair = inputs[metric.spec.domain]
        values[metric.name] = _one_value(metric, *pair) if pair is not None else math.nan
    return values


def _one_value(metric: Metric, sr: torch.Tensor, hr: torch.Tensor) -> float:
    try:
        with torch.inference_mode():
            value: Any = metric.function(sr, hr)
    except UndefinedScoreError:
        return math.nan
    except Exception as error:
        raise PluginError(f"metric {metric.name!r} failed: {describe_exception(error)}.") from error
    if not isinstance(value, torch.Tensor) or value.shape != (1,) or not value.dtype.is_floating_point:
        found = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise PluginError(f"metric {metric.name!r} must return one real value an image, shape (1,), not {found}.")
    if torch.isnan(value):
        raise PluginError(
            f"metric {metric.name!r} returned NaN; where it is not defined it must raise UndefinedScoreError."
        )
    return float(value)


@dataclass(frozen=True)
class ImageScore:
    """The scores of one image and the output they are of."""

    item: ImageItem
    values: dict[str, float]
    sr: torch.Tensor


def score_set(
    generator: nn.Module,
    image_set: ImageSet,
    metrics: Sequence[Metric],
    protocol: Protocol,
    scale: int,
    size_multiple: int = 1,
) -> Iterator[ImageScore]:
    """Upscale and score every image of a set, one at a time.

    Args:
        generator: prepared by :func:`srzoo.inference.prepare`.

    Raises:
        PluginError: the generator's output is not finite, or a metric fails.
    """
    parameter = next(generator.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")
    for item in image_set:
        lr, hr, grey = item.read_pair(scale)
        output = run_generator(generator, to_tensor(lr).to(device), scale, size_multiple)
        if not torch.isfinite(output).all():  # rounding would turn it into black
            raise PluginError(f"the generator's output for image {item.name!r} is not finite.")
        sr = round_to_uint8(output)
        reference = torch.from_numpy(hr).permute(2, 0, 1).unsqueeze(0).to(device)
        yield ImageScore(item, score(sr, reference, metrics, protocol, scale, grey), sr)


def mean_scores(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over images, leaving out those where it is not defined."""
    names = list(scores[0]) if scores else []
    means = {}
    for name in names:
        values = [s[name] for s in scores if not math.isnan(s[name])]
        means[name] = math.fsum(values) / len(values) if values else math.nan
    return means
