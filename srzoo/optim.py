"""Optimizers, schedules and precision by name, from timm."""

from __future__ import annotations

import inspect
import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler, TanhLRScheduler
from timm.scheduler.scheduler import Scheduler
from torch import nn

from .errors import InputError, did_you_mean
from .recipe import Optimizer, Schedule, lies_in
from .sharding import sharded_state


def make_optimizer(module: nn.Module, config: Optimizer, fused: bool = True) -> torch.optim.Optimizer:
    """Build an optimizer by timm's name for it.

    Args:
        fused: use one kernel over all parameters where there is one.

    Raises:
        InputError: timm has none of this name, or it refuses an option.
    """
    _check_names(config)
    options = {**(_fused(config.name, module) if fused else {}), **config.options}
    if config.betas is not None:
        options["betas"] = config.betas
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            module, opt=config.name, lr=config.lr, weight_decay=config.weight_decay, **options
        )
    except (ValueError, AssertionError, TypeError, RuntimeError, IndexError, KeyError, ImportError) as error:
        raise InputError(f"optimizer {config.name!r} refuses its settings: {error}.") from None
    names = {parameter: name for name, parameter in module.named_parameters()}
    for layer, factor in config.rates.items():  # names that there are not, preflight refuses
        for group in list(optimizer.param_groups):
            chosen = [parameter for parameter in group["params"] if lies_in(names[parameter], layer)]
            if chosen:
                group["params"] = [parameter for parameter in group["params"] if not lies_in(names[parameter], layer)]
                optimizer.add_param_group({**group, "params": chosen, "lr": factor * group["lr"]})
        optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    return optimizer


def _check_names(config: Optimizer) -> None:
    """Check an optimizer's name, its options', and the number of its betas, of which timm drops what is not used."""
    name = config.name.lower().split("_")[-1]  # lookahead_adam is adam's lookahead
    if name not in list_optimizers():
        raise InputError(
            f"There is no optimizer {config.name!r}.{did_you_mean(name, list_optimizers())} "
            "timm.optim.list_optimizers() names them all."
        )
    info = get_optimizer_info(name)
    known = inspect.signature(info.opt_class).parameters if callable(info.opt_class) else {}
    takes_any = not known or any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    for option in () if takes_any else config.options:
        if option not in known:
            own = [other for other in known if other not in ("params", "lr", "weight_decay")]
            raise InputError(
                f"optimizer {config.name!r} has no option {option!r}.{did_you_mean(option, own)} "
                f"Its options: {', '.join(own)}."
            )
    if config.betas is None:
        return
    wanted = getattr(info, "num_betas", 2) if info.has_betas else 0
    if wanted == 0:
        raise InputError(f"optimizer {config.name!r} has no betas; leave them out, or write betas: null.")
    if wanted != len(config.betas):
        raise InputError(
            f"optimizer {config.name!r} has {wanted} betas, not {len(config.betas)}; write betas: null for its own, "
            "or options: {betas: [...]} beside it."
        )


def try_optimizer(config: Optimizer, device: torch.device, sharded: bool = False) -> torch.optim.Optimizer:
    """Return an optimizer of a few parameters of its own, which it has taken a step on.

    Args:
        sharded: whether its state has to be gathered from several processes.

    Raises:
        InputError: it cannot be built, take a step, or have its state gathered, with these settings on this device.
    """
    with torch.random.fork_rng():
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 4)).to(device)
    optimizer = make_optimizer(module, config.model_copy(update={"rates": {}}))
    if type(optimizer).__module__.startswith("torch.optim."):  # what these cannot do, they say at once
        return optimizer
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer.step()
    except Exception as error:  # whatever an optimizer of any package raises
        raise InputError(f"optimizer {config.name!r} cannot take a step here: {error}.") from None
    if sharded:
        try:
            sharded_state(module, optimizer)
        except ValueError as error:
            raise InputError(
                f"the state of optimizer {config.name!r} cannot be gathered from several processes: {error}. Choose "
                "another, or set training.fsdp=false."
            ) from None
    return optimizer


def _fused(name: str, module: nn.Module) -> dict[str, bool]:
    """Return torch's option for one kernel over all parameters, where the optimizer and the device have it."""
    devices = {parameter.device.type for parameter in module.parameters()}
    return (
        {"fused": True} if name.lower() in ("adam", "adamw", "sgd", "momentum") and devices <= {"cpu", "cuda"} else {}
    )


_timm_log = logging.getLogger("timm.scheduler.cosine_lr")


def make_schedule(optimizer: torch.optim.Optimizer, config: Schedule, steps: int) -> Scheduler:
    """Build a schedule that is updated once a step."""
    if config.name in ("cosine", "poly", "tanh"):
        periods: dict[str, Any] = {
            "t_initial": max(1, -(-steps // config.cycles)),
            "lr_min": config.lr_min,
            "cycle_limit": config.cycles,
            "warmup_t": config.warmup,
            "t_in_epochs": False,
        }
        if config.name == "poly":
            return PolyLRScheduler(optimizer, power=config.power, **periods)
        _timm_log.setLevel(logging.ERROR)  # it warns, each time, that one step is no curve
        return (CosineLRScheduler if config.name == "cosine" else TanhLRScheduler)(optimizer, **periods)
    return MultiStepLRScheduler(
        optimizer,
        decay_t=[milestone + 1 for milestone in config.milestones],  # timm decays one update early
        decay_rate=config.gamma,
        warmup_t=config.warmup,
        warmup_prefix=False,  # else milestones would be counted from the end of the warm-up
        t_in_epochs=False,
    )


def clip_weights_(module: nn.Module, limit: float) -> None:
    """Clip every weight to [-limit, limit] (WGAN, arXiv:1701.07875, algorithm 1)."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.clamp_(-limit, limit)


def autocast_in(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context that networks run in at a precision, one that :func:`precision_for` returns."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def precision_for(wanted: str, device: torch.device) -> str:
    """Return ``fp32``, ``bf16`` or ``fp16``: what is wanted, or what the device is fast in."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bf16" if fast or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)() else "fp32"
