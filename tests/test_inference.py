"""Precisions below float32: what they convert, what stays exact, and what they lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import srzoo
from srzoo.data import load_image_set
from srzoo.images import to_tensor
from srzoo.inference import REDUCED, exact_float32, prepare, run_generator
from srzoo.pretrained import load_model
from srzoo.ready import is_ready
from srzoo.zoo import get_zoo

READY = [name for name in srzoo.list_entries("*-x4") if is_ready(get_zoo().entry(name))]


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """A natural image, (1, 3, 48, 48)."""
    low, _, _ = next(iter(load_image_set("photos"))).read_pair(4)
    return to_tensor(np.ascontiguousarray(low[:48, :48]))


def small(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return srzoo.create_generator("srresnet-mse-x4", num_features=8, num_blocks=1, **options)


def test_float32_is_the_default_and_changes_nothing() -> None:
    generator = small()
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    assert prepare(generator, "cpu") is generator
    assert prepare(generator, "cpu", "fp32") is generator
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


@pytest.mark.parametrize("precision", sorted(REDUCED))
def test_only_what_convolves_is_converted(precision: str) -> None:
    generator = small()
    prepare(generator, "cpu", precision)
    for layer in generator.modules():
        expected = REDUCED[precision] if isinstance(layer, nn.Conv2d) else torch.float32
        own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
        assert {tensor.dtype for tensor in own if tensor.is_floating_point()} <= {expected}, layer


@pytest.mark.parametrize("precision", sorted(REDUCED))
def test_the_enlarged_image_is_added_in_float32(precision: str, photo: torch.Tensor) -> None:
    generator = small(image_skip="bilinear")
    nn.init.zeros_(generator.tail.weight)
    nn.init.zeros_(generator.tail.bias)
    expected = run_generator(prepare(generator, "cpu"), photo, 4)
    found = run_generator(prepare(generator, "cpu", precision), photo, 4)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", READY)
def test_every_shipped_entry_computes_in_bf16_as_it_does_in_float32(name: str, photo: torch.Tensor) -> None:
    one, two = load_model(name), load_model(name)
    exact = run_generator(prepare(one.generator, "cpu"), photo, 4, one.size_multiple)
    found = run_generator(prepare(two.generator, "cpu", "bf16"), photo, 4, two.size_multiple)
    # 60 dB away from float32's output: what is 30 dB away from the truth then loses 0.004 dB. A generator that adds no
    # enlarged image ends in bf16 itself, which rounds the image by itself at 59 dB; at 54 dB the loss is 0.02 dB.
    adds_image = one.entry.generator.options.get("image_skip") or one.entry.generator.name.rpartition("/")[2] != "trunk"
    assert 10 * torch.log10(1 / (found - exact).square().mean()) > (60 if adds_image else 54)


def test_an_unknown_precision_is_refused_before_anything_is_converted() -> None:
    generator = small()
    with pytest.raises(ValueError, match="precision must be fp32, bf16 or fp16, not 'int8'"):
        prepare(generator, "cpu", "int8")  # type: ignore[arg-type]
    assert {parameter.dtype for parameter in generator.parameters()} == {torch.float32}


def test_the_benchmark_knows_every_tensor_of_rrdbnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from inference import new_style

    names = [new_style(name) for name in srzoo.create_generator("esrgan-x4").state_dict()]
    assert len(set(names)) == 2 * (23 * 3 * 5 + 6)
    assert {name.split(".")[0] for name in names} == {
        *("conv_first", "body", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"),
    }
    assert "body.22.rdb3.conv5.bias" in names


@pytest.mark.parametrize("newer", [False, True])
def test_float32_is_float32_for_as_long_as_scores_are_computed(newer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    parts: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    switch: str = "allow_tf32"
    exact: bool | str = False
    if newer:  # a caller who uses torch's newer switches, beside which the older cannot be read
        if not hasattr(torch.backends, "fp32_precision"):
            pytest.skip("this torch has no newer switches")
        parts, switch, exact = (parts[0].conv, parts[1]), "fp32_precision", "ieee"
    before = [getattr(part, switch) for part in parts]
    try:
        if newer:
            for part in parts:
                setattr(part, switch, "tf32")
        inside = [getattr(part, switch) for part in parts]
        with exact_float32():
            assert [getattr(part, switch) for part in parts] == [exact, exact]
        assert [getattr(part, switch) for part in parts] == inside
    finally:
        for part, value in zip(parts, before, strict=True):
            setattr(part, switch, value)
