"""Pixel and perceptual losses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import srzoo
from srzoo.errors import CompositionError, MissingWeightsError, SrzooError
from srzoo.registry import get_registry
from srzoo.specs import LossSpec

torch.set_num_threads(1)

RANDOM_VGG = {"extractor": {"name": "vgg19", "pretrained": False}}
OPTIONS = {
    "perceptual": {**RANDOM_VGG, "layers": {"relu2_2": 1.0}},
    "texture": {**RANDOM_VGG, "layers": {"relu2_1": 1.0}},
}
IMAGE_LOSSES = [
    c.full_name
    for c in get_registry().find("loss")
    if isinstance(c.spec, LossSpec) and c.spec.role in ("pixel", "perceptual")
]


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_image_loss_is_a_finite_differentiable_scalar(name: str) -> None:
    loss = srzoo.create("loss", name, **OPTIONS.get(name.rpartition("/")[2], {}))
    sr, hr = torch.rand(2, 3, 32, 32, requires_grad=True), torch.rand(2, 3, 32, 32)
    value = loss(sr, hr)
    assert value.shape == ()
    value.backward()
    assert sr.grad is not None
    assert torch.isfinite(sr.grad).all()
    assert sr.grad.abs().sum() > 0


@pytest.mark.parametrize("name", [n for n in IMAGE_LOSSES if not n.endswith(("total_variation", "charbonnier"))])
def test_image_loss_is_zero_at_identity(name: str) -> None:
    loss = srzoo.create("loss", name, **OPTIONS.get(name.rpartition("/")[2], {}))
    image = torch.rand(1, 3, 32, 32)
    assert loss(image, image).item() == pytest.approx(0, abs=1e-8)


def test_values_known_by_hand() -> None:
    sr, hr = torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.2)
    assert srzoo.create("loss", "l1")(sr, hr).item() == pytest.approx(0.3)
    assert srzoo.create("loss", "mse")(sr, hr).item() == pytest.approx(0.09)
    assert srzoo.create("loss", "charbonnier", eps=0.4)(sr, hr).item() == pytest.approx(0.5)
    assert srzoo.create("loss", "total_variation")(sr, hr).item() == 0
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    assert srzoo.create("loss", "total_variation")(ramp, hr).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("layer", "index"), [("conv1_1", 0), ("relu2_2", 8), ("conv5_4", 34), ("relu5_4", 35), ("pool5", 36)]
)
def test_vgg19_layer_names_are_torchvisions_indices(layer: str, index: int) -> None:
    extractor = srzoo.create("extractor", "vgg19", pretrained=False).eval()
    images = torch.rand(1, 3, 64, 64)
    normalised = (images - extractor.mean) / extractor.std
    with torch.no_grad():
        expected = extractor.features[: index + 1](normalised)
        torch.testing.assert_close(extractor(images, [layer])[layer], expected)


def test_features_before_activation_are_not_overwritten_by_those_after() -> None:
    extractor = srzoo.create("extractor", "vgg19", pretrained=False)
    found = extractor(torch.rand(1, 3, 32, 32), ["conv2_2", "relu2_2"])
    assert found["conv2_2"].min() < 0
    torch.testing.assert_close(F.relu(found["conv2_2"]), found["relu2_2"])


def test_squeezenet_layers_agree_with_torchvisions_forward(squeezenet) -> None:
    extractor = srzoo.create("extractor", "squeezenet1_1").eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found = extractor(images, ["fire9_relu", "fire3_conv", "fire3_relu"])
        torch.testing.assert_close(found["fire9_relu"], extractor.features((images - extractor.mean) / extractor.std))
    assert found["fire3_conv"].min() < 0
    torch.testing.assert_close(F.relu(found["fire3_conv"]), found["fire3_relu"])


def test_under_autocast_the_features_are_those_of_a_plain_pass_and_weights_are_cast_once() -> None:
    loss = srzoo.create("loss", "perceptual", **RANDOM_VGG, layers={"conv2_1": 1.0})
    images = torch.rand(1, 3, 16, 16)

    def casts_and_features() -> tuple[int, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16), torch.profiler.profile() as profile:
            found = loss.features(images)["conv2_1"]
        return sum(event.count for event in profile.key_averages() if event.key == "aten::_to_copy"), found

    first, found = casts_and_features()
    again, _ = casts_and_features()
    assert first - again == 2 * 16  # weights and biases of VGG19's convolutions
    with torch.autocast("cpu", torch.bfloat16):
        plain = loss.extractor(images, ["conv2_1"])["conv2_1"]
    torch.testing.assert_close(found, plain, rtol=0, atol=0)

    with torch.no_grad():
        for weights in loss.extractor.parameters():
            weights.mul_(2.0)
    _, changed = casts_and_features()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(changed, loss.extractor(images, ["conv2_1"])["conv2_1"], rtol=0, atol=0)
    assert not torch.equal(changed, found)
    torch.testing.assert_close(loss.features(images), loss.extractor(images, ["conv2_1"]), rtol=0, atol=0)


def test_perceptual_is_the_weighted_sum_over_layers() -> None:
    torch.manual_seed(0)
    layers = {"relu1_2": 0.5, "conv2_1": 2.0}
    loss = srzoo.create("loss", "perceptual", **RANDOM_VGG, layers=layers, distance="mse", feature_scale=0.1)
    sr, hr = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        a, b = loss.extractor(sr, list(layers)), loss.extractor(hr, list(layers))
        expected = sum(w * F.mse_loss(0.1 * a[n], 0.1 * b[n]) for n, w in layers.items())
        torch.testing.assert_close(loss(sr, hr), expected)


def test_extractor_is_frozen_and_stays_in_eval_mode() -> None:
    loss = srzoo.create("loss", "perceptual", **RANDOM_VGG, layers={"relu1_1": 1.0})
    loss.train()
    assert not loss.extractor.training
    assert not any(p.requires_grad for p in loss.parameters())


def test_timm_extractor_gives_layers_by_timms_names() -> None:
    extractor = srzoo.create("extractor", "timm", backbone="resnet10t", pretrained=False)
    found = extractor(torch.rand(1, 3, 64, 64), ["layer1", "layer3"])
    assert found["layer1"].shape[-1] == 16
    assert found["layer3"].shape[-1] == 4


def test_unknown_layer_names_the_near_miss() -> None:
    with pytest.raises(SrzooError, match="Did you mean 'conv5_4'"):
        srzoo.create("loss", "perceptual", **RANDOM_VGG, layers={"conv5_5": 1.0})


def test_missing_backbone_says_which_file_to_put_where(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("SRZOO_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("SRZOO_DATA", str(tmp_path / "data"))
    with pytest.raises(MissingWeightsError, match=r"put vgg19-dcbb9e9d\.pth") as caught:
        srzoo.create("loss", "perceptual", extractor="vgg19", layers={"conv5_4": 1.0})
    assert str(tmp_path) in str(caught.value)


def test_texture_compares_gram_matrices_of_patches_not_positions() -> None:
    """Moving content within a patch leaves its Gram matrix, so only the pixel loss sees it."""
    loss = srzoo.create("loss", "texture", **RANDOM_VGG, layers={"relu1_1": 1.0})
    features = torch.rand(1, 4, 16, 16)
    moved = features.roll(5, dims=-1)
    assert loss.compare(features, moved, 1).item() == pytest.approx(0, abs=1e-9)
    assert loss.compare(features, 2 * features, 1).item() > 0.1


@pytest.mark.parametrize(("channels", "side"), [(4, 4), (32, 2)])
@pytest.mark.parametrize("distance", ["mse", "l1"])
def test_texture_is_the_distance_of_gram_matrices_however_it_is_computed(
    channels: int, side: int, distance: str
) -> None:
    """EnhanceNet, sec. 4.2.3; fewer positions than channels take another way to the same value and gradient."""
    torch.manual_seed(0)
    loss = srzoo.create(
        "loss", "texture", **RANDOM_VGG, layers={"relu1_1": 1.0}, patch_size=4 * side, distance=distance
    )
    found, wanted = torch.rand(2, channels, 9, 8, requires_grad=True), torch.rand(2, channels, 9, 8)

    def grams(features: torch.Tensor) -> torch.Tensor:
        patches = F.unfold(features, side, stride=side).view(2, channels, side * side, -1)
        return torch.einsum("ncpk,ndpk->nkcd", patches, patches) / side**2

    expected = (F.mse_loss if distance == "mse" else F.l1_loss)(grams(found), grams(wanted))
    value = loss.compare(found, wanted, 4)
    torch.testing.assert_close(value, expected)
    one, other = (torch.autograd.grad(v, found, retain_graph=True)[0] for v in (value, expected))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss.compare(found, wanted, 4), value, rtol=0, atol=0)
    assert loss.compare(wanted, wanted, 4).item() == pytest.approx(0, abs=1e-7)


def test_an_empty_layer_list_is_refused() -> None:
    with pytest.raises(CompositionError, match="at least one layer"):
        srzoo.create("loss", "perceptual", **RANDOM_VGG, layers={})
