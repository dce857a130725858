"""Scoring images: the one place where an output meets its reference, for benchmark and validation alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from .compose import create
from .data import ImageItem, ImageSet
from .errors import DataError, InputError, MissingLibraryError, PluginError, UndefinedScoreError, WeightsError
from .images import UInt8Array, round_to_uint8, to_tensor
from .inference import exact_float32, run_generator
from .plugins import FAULTS, describe_exception
from .protocol import Protocol, apply_protocol
from .registry import get_registry
from .specs import MetricSpec


@dataclass(frozen=True)
class Metric:
    """A metric ready to be used.

    Attributes:
        name: its bare name, which results are under.
        full_name: ``owner/name``, which is never ambiguous.
    """

    name: str
    full_name: str
    spec: MetricSpec
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    @property
    def prepares(self) -> bool:
        """Whether it computes something of a reference once; see :class:`srzoo.MetricSpec`."""
        return callable(getattr(self.function, "reference", None)) and callable(getattr(self.function, "against", None))


def build_metric(name: str, device: torch.device) -> Metric:
    """Build a metric by name.

    Raises:
        UnknownNameError: there is none of this name.
        MissingWeightsError: its backbone is not on this machine; says which file to put where.
        MissingLibraryError: it needs a library that is not installed; names the extra.
    """
    component = get_registry().get("metric", name)
    assert isinstance(component.spec, MetricSpec)
    function = create("metric", component.full_name, where="metric")
    if isinstance(function, nn.Module):
        function = function.eval().requires_grad_(False).to(device)
    return Metric(component.name, component.full_name, component.spec, function)


def available_metrics(names: Sequence[str], device: torch.device) -> tuple[list[Metric], dict[str, str]]:
    """Return the metrics that can be computed here, and for each of the others the reason why not.

    Raises:
        InputError: two of different plugins have one name, under which both their scores would be.
    """
    found: dict[str, Metric] = {}
    missing = {}
    for name in names:
        try:
            metric = build_metric(name, device)
        except (WeightsError, MissingLibraryError) as error:
            missing[name] = str(error)
            continue
        other = found.setdefault(metric.name, metric)
        if other.full_name != metric.full_name:
            both = f"{other.full_name!r} and {metric.full_name!r}"
            raise InputError(f"{both} would both be called {metric.name!r}; ask for one at a time.")
    return list(found.values()), missing


class Reference:
    """A reference image, and what each metric computes of it once for all outputs that it is compared with.

    Args:
        hr: RGB (1, 3, H, W) uint8.
        metrics: those that outputs will be scored by, on the same device.
        scale: of the entries; the protocol's border.
        grey: whether the image is a grey one.
    """

    def __init__(self, hr: torch.Tensor, metrics: Sequence[Metric], protocol: Protocol, scale: int, grey: bool) -> None:
        self.hr, self.metrics = hr, metrics
        self._protocol, self._scale, self._grey = protocol, scale, grey
        self._inputs = {domain: self._seen(hr, domain) for domain in {metric.spec.domain for metric in metrics}}
        self._prepared: dict[str, Any] = {}

    def score(self, sr: torch.Tensor, names: Collection[str] | None = None) -> dict[str, float]:
        """Score one output; see :meth:`score_all`."""
        (values,) = self.score_all([sr], names)
        return values

    def score_all(
        self, outputs: Sequence[torch.Tensor], names: Collection[str] | None = None
    ) -> list[dict[str, float]]:
        """Score several outputs at once: what is computed of the reference, and every kernel's start, serves all.

        Args:
            outputs: RGB (1, 3, H, W) uint8 each, as saved.
            names: of the metrics wanted; all by default.

        Returns:
            for each output, metric name to value; NaN where a metric is not defined for this image.

        Raises:
            DataError: the sizes differ.
            PluginError: a metric fails or returns something else than one value an image.
        """
        for sr in outputs:
            if sr.shape != self.hr.shape:
                raise DataError(f"the output is {tuple(sr.shape)} and its reference {tuple(self.hr.shape)}.")
        wanted = [metric for metric in self.metrics if names is None or metric.name in names]
        together = torch.cat(list(outputs))  # (N, 3, H, W)
        inputs = {domain: self._seen(together, domain) for domain in {metric.spec.domain for metric in wanted}}
        found = {m.name: self._values(m, inputs[m.spec.domain], len(outputs)) for m in wanted}
        return [{name: values[number] for name, values in found.items()} for number in range(len(outputs))]

    def _seen(self, image: torch.Tensor, domain: str) -> torch.Tensor | None:
        """Return what metrics of a domain see of an image; None where nothing is left inside the border."""
        if domain == "rgb":
            return image.float() / 255.0
        try:
            return apply_protocol(image, self._protocol, self._scale, self._grey)
        except UndefinedScoreError:
            return None

    def _values(self, metric: Metric, sr: torch.Tensor | None, count: int) -> list[float]:
        hr = self._inputs[metric.spec.domain]
        if sr is None or hr is None:
            return [math.nan] * count
        try:
            with torch.inference_mode(), exact_float32():
                value = self._apply(metric, sr, hr)
        except UndefinedScoreError:
            if count == 1:
                return [math.nan]
            return [self._values(metric, one.unsqueeze(0), 1)[0] for one in sr]  # it is not said for which of them
        except FAULTS as error:
            raise PluginError(f"metric {metric.name!r} failed: {describe_exception(error)}.") from error
        if not isinstance(value, torch.Tensor) or value.shape != (count,) or not value.dtype.is_floating_point:
            found = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise PluginError(
                f"metric {metric.name!r} must return one real value an image, shape ({count},), not {found}."
            )
        if torch.isnan(value).any():
            raise PluginError(
                f"metric {metric.name!r} returned NaN; where it is not defined it must raise UndefinedScoreError."
            )
        return [float(one) for one in value.tolist()]

    def _apply(self, metric: Metric, sr: torch.Tensor, hr: torch.Tensor) -> Any:
        if not metric.prepares:
            return metric.function(sr, hr.expand_as(sr))
        if metric.name not in self._prepared:
            self._prepared[metric.name] = metric.function.reference(hr)  # type: ignore[attr-defined]
        return metric.function.against(sr, self._prepared[metric.name])  # type: ignore[attr-defined]


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
        sr = upscaled(generator, to_tensor(lr).to(device), scale, size_multiple, item.name)
        reference = Reference(image_to_device(hr, device), metrics, protocol, scale, grey)
        yield ImageScore(item, reference.score(sr), sr)


def image_to_device(rgb: UInt8Array, device: torch.device) -> torch.Tensor:
    """Return (H, W, 3) uint8 as (1, 3, H, W) uint8 on a device."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1).unsqueeze(0).to(device)


def upscaled(
    generator: nn.Module, lr: torch.Tensor, scale: int, size_multiple: int = 1, name: str = ""
) -> torch.Tensor:
    """Upscale (1, 3, H, W) in [0, 1] to uint8, as saved.

    Args:
        name: of the image, for messages.

    Raises:
        PluginError: the generator failed, or its output is not finite.
    """
    output = run_generator(generator, lr, scale, size_multiple)
    if not torch.isfinite(output).all():  # rounding would turn it into black
        raise PluginError(f"the generator's output for image {name!r} is not finite.")
    return round_to_uint8(output)


def mean_scores(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over images, leaving out those where it is not defined."""
    names = list(scores[0]) if scores else []
    means = {}
    for name in names:
        values = [s[name] for s in scores if not math.isnan(s[name])]
        means[name] = math.fsum(values) / len(values) if values else math.nan
    return means
