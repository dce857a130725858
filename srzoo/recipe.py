"""Typed, frozen models of how an entry is trained: stages, their loss terms, optimizers and schedules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, Strict

from .fields import (
    Count,
    Flag,
    Fraction,
    Model,
    NonNegative,
    PositiveFloat,
    PositiveInt,
    Probability,
    Text,
    split_options,
)

TERM_KEYS = ("name", "weight", "every", "weight_end", "supervises", "reference")
"""Keys of a loss term that are not options of the loss."""


class LossTerm(Model):
    """One weighted term of a stage's objective; written ``0.01`` or ``{weight: 0.01, option: value}``.

    Args:
        name: the loss; the term's own label by default.
        weight: factor on the loss.
        every: compute the term every this many steps only (regularisers); the weight is not rescaled.
        weight_end: where the weight has moved to, along a straight line, by the end of the stage.
        supervises: the generator's ``output``, or ``intermediate``: the mean over its intermediate outputs.
        reference: what the output is compared with: ``hr``, the photograph, or ``teacher``, what the recipe's teacher
            makes of the same input, clamped to [0, 1].
    """

    name: Text
    weight: NonNegative = 1.0
    every: PositiveInt = 1
    weight_end: NonNegative | None = None
    supervises: Literal["output", "intermediate"] = "output"
    reference: Literal["hr", "teacher"] = "hr"
    options: dict[str, Any] = {}

    @pydantic.model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            return split_options(data, TERM_KEYS)
        return data

    @pydantic.model_validator(mode="after")
    def _check(self) -> LossTerm:
        if self.weight == 0 and self.weight_end:
            raise ValueError("weight_end: a term of weight 0 is left out; let it start above 0")
        return self

    @pydantic.model_serializer
    def flat(self) -> dict[str, Any]:
        """Return the mapping a zoo file would hold; settings that came later only where they are made."""
        later: dict[str, Any] = {} if self.weight_end is None else {"weight_end": self.weight_end}
        if self.supervises != "output":
            later["supervises"] = self.supervises
        if self.reference != "hr":
            later["reference"] = self.reference
        return {"name": self.name, "weight": self.weight, "every": self.every, **later, **self.options}

    def weight_at(self, step: int, steps: int) -> float:
        """Return the weight in a step, counted from 0, of a stage with so many steps."""
        if self.weight_end is None:
            return self.weight
        return self.weight + (self.weight_end - self.weight) * min(1.0, step / max(1, steps - 1))


class Optimizer(Model):
    """An optimizer of timm's ``create_optimizer_v2`` by name.

    Args:
        betas: of Adam-like optimizers; the optimizer's own default if not given.
        options: further keyword arguments, for instance ``{momentum: 0.9}``.
        rates: factors on the learning rate of single parts of the network, such as ``{reconstruct: 0.1}``.
    """

    name: Text = "adam"
    lr: PositiveFloat
    betas: tuple[Fraction, Fraction] | None = None
    weight_decay: NonNegative = 0.0
    options: dict[str, Any] = {}
    rates: dict[str, PositiveFloat] = {}

    @pydantic.model_serializer(mode="wrap")
    def _leave_out_no_rates(self, serialise: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave recipes without rates as they were before there were any, so that their runs go on."""
        return {key: value for key, value in serialise(self).items() if key != "rates" or value}


def lies_in(parameter: str, layer: str) -> bool:
    """Whether a parameter is one of a layer's, by their names."""
    return parameter == layer or parameter.startswith(layer + ".")


class Schedule(Model):
    """How the learning rate moves with the step.

    Args:
        milestones: steps at which ``multistep`` multiplies the rate by ``gamma``.
        power: exponent of ``poly``; 1 is a straight line.
        cycles: number of periods of ``cosine``, ``poly`` and ``tanh``, each restarting at the full rate.
        lr_min: where these end.
        warmup: steps of linear warm-up from zero.
    """

    name: Literal["constant", "multistep", "cosine", "poly", "tanh"] = "constant"
    milestones: tuple[PositiveInt, ...] = ()
    gamma: PositiveFloat = 0.5
    power: PositiveFloat = 1.0
    cycles: PositiveInt = 1
    lr_min: NonNegative = 0.0
    warmup: Count = 0

    @pydantic.model_validator(mode="after")
    def _check(self) -> Schedule:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must increase")
        if self.milestones and self.name != "multistep":
            raise ValueError(f"milestones belong to multistep, not to {self.name}")
        if self.name == "multistep" and not self.milestones:
            raise ValueError("multistep needs milestones, the steps at which the rate is multiplied by gamma")
        return self

    def scaled(self, factor: float) -> Schedule:
        """Return the schedule of a run that is ``factor`` times as long."""
        milestones = sorted({max(1, round(m * factor)) for m in self.milestones})
        return self.model_copy(update={"milestones": tuple(milestones), "warmup": round(self.warmup * factor)})


class Stage(Model):
    """One stage of training; it starts from the weights the stage before ended with.

    A stage with an adversarial loss trains generator and discriminator; one without, the generator alone.

    Args:
        discriminator_optimizer: the generator's optimizer settings by default.
        ema: decay of the exponential moving average of the generator that is validated and saved; 0 for none.
        clip_discriminator: clip the discriminator's weights to plus and minus this after each step (WGAN).
        clip_gradient: scale each network's gradient down to this norm where it is larger.
        spectral_norm: constrain every layer of the discriminator by spectral normalisation (arXiv:1802.05957).
        discriminator_steps: steps of the discriminator for each of the generator, each on a batch of its own;
            they all count as steps of the stage. 5 in WGAN.
        discriminator_warmup: first steps of the stage in which the discriminator alone is trained.
    """

    steps: PositiveInt
    losses: dict[str, LossTerm]
    optimizer: Optimizer
    discriminator_optimizer: Optimizer | None = None
    schedule: Schedule = Schedule()
    ema: Fraction = 0.999
    clip_discriminator: PositiveFloat | None = None
    clip_gradient: PositiveFloat | None = None
    spectral_norm: Flag = False
    discriminator_steps: PositiveInt = 1
    discriminator_warmup: Count = 0

    @pydantic.field_validator("losses", mode="before")
    @classmethod
    def _name_terms(cls, losses: Any) -> Any:
        """Let ``l1: 0.01`` stand for ``l1: {name: l1, weight: 0.01}``."""
        if not isinstance(losses, Mapping):
            return losses
        named = {}
        for label, term in losses.items():
            if isinstance(term, (int, float)) and not isinstance(term, bool):
                term = {"weight": term}
            named[label] = {"name": label, **term} if isinstance(term, Mapping) else term
        return named

    @pydantic.model_validator(mode="after")
    def _check(self) -> Stage:
        if not any(term.weight > 0 for term in self.losses.values()):
            raise ValueError("losses: give at least one term a weight above zero")
        if self.discriminator_warmup + self.discriminator_steps > self.steps:
            raise ValueError("steps: too few for discriminator_warmup and discriminator_steps to reach the generator")
        return self

    def shortened(self, steps: int) -> Stage:
        """Return the stage with another number of steps, its schedule in proportion."""
        if steps < self.discriminator_steps:
            raise ValueError(f"--steps leaves {steps} for a stage with discriminator_steps {self.discriminator_steps}")
        factor = steps / self.steps
        warmup = max(0, min(round(self.discriminator_warmup * factor), steps - self.discriminator_steps))
        return self.model_copy(
            update={"steps": steps, "schedule": self.schedule.scaled(factor), "discriminator_warmup": warmup}
        )

    def optimizer_of_discriminator(self) -> Optimizer:
        """Return its own settings, or the generator's but for the rates of layers."""
        return self.discriminator_optimizer or self.optimizer.model_copy(update={"rates": {}})

    def imitates(self) -> bool:
        """Whether a term compares with what a teacher makes of the input."""
        return any(term.reference == "teacher" and term.weight > 0 for term in self.losses.values())

    def trains_generator(self, step: int) -> bool:
        """Whether the generator is updated in a step, counted from 0."""
        late = step - self.discriminator_warmup
        return late >= 0 and (late + 1) % self.discriminator_steps == 0

    def updates_before(self, step: int) -> int:
        """Return how often the generator has been updated before a step, counted from 0."""
        return max(0, step - self.discriminator_warmup) // self.discriminator_steps


class Validation(Model):
    """Scores during training, computed as ``srzoo bench`` does.

    Args:
        data: datasets or folders.
        every: steps between validations.
        metrics: their names.
    """

    data: tuple[Text, ...]
    every: PositiveInt = 5000
    metrics: tuple[Text, ...] = ("psnr", "ssim")
    protocol: Literal["y", "y-matlab", "rgb"] = "y"

    @pydantic.field_validator("data", "metrics", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @pydantic.field_validator("data", "metrics")
    @classmethod
    def _some(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("give at least one; for no validation write training.validation: null")
        return names


class Training(Model):
    """The training recipe of an entry.

    Args:
        data: datasets or folders, joined.
        start_from: entry whose weights the generator starts from.
        teacher: entry, or ``ENTRY+`` for its self-ensemble, whose output terms with ``reference: teacher`` compare
            with (knowledge distillation, Hinton et al., arXiv:1503.02531). Of a self-ensemble, each of the generator's
            steps takes one of the eight views in turn: a mean over steps and not over passes, at an eighth of the cost.
        patch_size: side of the high-resolution crop in pixels; a multiple of the scale.
        batch_size: crops a step, over all processes together.
        augment: random flips and 90-degree rotations.
        multiscale: factors of at most 1, one of which, drawn at random, shrinks the image before the crop
            (as LapSRN, arXiv:1704.03915); low-resolution images are then made, never read.
        permute_colours: probability that a crop's colour channels change places (Yoo et al., arXiv:2004.00448).
        mixup: probability that a crop is blended with one of another image, against learning few images by heart
            (Feng et al., CVPRW 2019); the weights are drawn from Beta(1.2, 1.2) as by Yoo et al.
        precision: ``auto`` is bf16 where the device computes in it, else fp32.
        accumulate: parts that each process' share of a batch is computed in, to save memory. Terms over a whole
            batch (batch normalisation, the mean of relativistic_average) are then those of a part.
        deterministic: refuse algorithms whose result is not the same every time; on a CPU there are none here.
        fsdp: share parameters, optimizer state and moving average of the generator out over the processes, for
            generators too large for one device.
        compile: compile the generator with torch.compile; pays off in runs of an hour and more on a GPU.
    """

    data: tuple[Text, ...]
    start_from: Text | None = None
    teacher: Text | None = None
    patch_size: PositiveInt
    batch_size: PositiveInt = 16
    augment: Flag = True
    multiscale: tuple[Annotated[float, Strict(), Field(gt=0, le=1)], ...] = (1.0,)
    permute_colours: Probability = 0.0
    mixup: Probability = 0.0
    seed: Annotated[int, Strict(), Field(ge=0, lt=2**32 - 64)] = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    accumulate: PositiveInt = 1
    deterministic: Flag = False
    fsdp: Flag = False
    compile: Flag = False
    validation: Validation | None = None
    stages: dict[str, Stage]

    @pydantic.field_validator("data", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @pydantic.field_validator("multiscale")
    @classmethod
    def _distinct(cls, factors: tuple[float, ...]) -> tuple[float, ...]:
        if not factors or len(set(factors)) < len(factors):
            raise ValueError("give one or more different factors, such as [1.0, 0.75, 0.5]")
        return factors

    @pydantic.model_serializer(mode="wrap")
    def _leave_out_no_teacher(self, serialise: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave recipes without a teacher as they were before there were any, so that their runs go on."""
        return {key: value for key, value in serialise(self).items() if key != "teacher" or value is not None}

    @pydantic.field_validator("stages")
    @classmethod
    def _some(cls, stages: dict[str, Stage]) -> dict[str, Stage]:
        if not stages:
            raise ValueError("give at least one stage")
        for name in stages:
            if name.lower() == "best":
                raise ValueError(f"a stage cannot be called {name!r}: checkpoints/best.safetensors is another file")
            if not re.fullmatch(r"\w[\w .+-]*", name):  # files are named after it
                raise ValueError(f"a stage's name has letters, digits, '_', '-', '+' and '.', not {name!r}")
        return stages

    def of_stages(self, names: Iterable[str]) -> Training:
        """Return the recipe of some of the stages alone, with its teacher if one of them imitates it."""
        stages = {name: self.stages[name] for name in names}
        teacher = self.teacher if any(stage.imitates() for stage in stages.values()) else None
        return self.model_copy(update={"stages": stages, "teacher": teacher})

    def shortened(self, total: int) -> Training:
        """Return the recipe with ``total`` steps shared among the stages in proportion, at least one each.

        Raises:
            ValueError: fewer steps than stages.
        """
        if total < len(self.stages):
            raise ValueError(f"--steps {total} is fewer than one step for each of {len(self.stages)} stages")
        full = sum(stage.steps for stage in self.stages.values())
        shares = {name: max(1, round(stage.steps * total / full)) for name, stage in self.stages.items()}
        longest = max(shares, key=lambda name: shares[name])
        shares[longest] += total - sum(shares.values())
        return self.model_copy(
            update={"stages": {name: stage.shortened(shares[name]) for name, stage in self.stages.items()}}
        )
