"""Pretrained weights: PyTorch's modules with the names of each layout, files that do not fit."""

from __future__ import annotations

import hashlib
import re
import textwrap

import numpy as np
import pytest
import safetensors.torch
import torch
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.models import resnet50
from medrobust.models.engine import batch_normed
from medrobust.models.engine.pretrained import read_weights, torchvision_layout, with_pretrained
from torch import nn

from tests.unit.models.residual_oracles import images, moved
from tests.unit.models.test_resnet50 import monai_resnet

SPEC = resnet50.Spec(stages=[2, 3, 4, 5], blocks=[1, 2, 1, 2], mean=[0.0] * 3, deviation=[1.0] * 3)
SHAPE, CLASSES = (3, 33, 33), 7
CONVOLUTIONS = 1 + 3 * 6 + 4


def shaken(module: nn.Module) -> nn.Module:
    """Gives every array of a module values of its own, variances above 0."""
    draws = torch.Generator().manual_seed(3)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=draws)
            value.copy_(noise + 0.5 if name.endswith("running_var") else noise - 0.4)
    return module.eval()


class SimclrStage(nn.Module):
    """A stage with the names of Separius/SimCLRv2-Pytorch."""

    def __init__(self, before: int, inside: int, count: int, stride: int) -> None:
        super().__init__()
        after, blocks = 4 * inside, []
        for k in range(count):
            block = nn.ModuleDict({"net": nn.Sequential(
                nn.Conv2d(before, inside, 1, bias=False), self.normalised(inside),
                nn.Conv2d(inside, inside, 3, 1 if k else stride, 1, bias=False),
                self.normalised(inside),
                nn.Conv2d(inside, after, 1, bias=False), self.normalised(after)[:1],
            )})  # fmt: skip
            if k == 0:
                shortcut = nn.Conv2d(before, after, 1, stride, bias=False)
                parts = {"shortcut": shortcut, "bn": self.normalised(after)[:1]}
                block["projection"] = nn.ModuleDict(parts)
            blocks.append(block)
            before = after
        self.blocks = nn.ModuleList(blocks)

    @staticmethod
    def normalised(maps: int) -> nn.Sequential:
        return nn.Sequential(nn.BatchNorm2d(maps), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            short = x
            if "projection" in block:
                short = block["projection"]["bn"](block["projection"]["shortcut"](x))
            x = (short + block["net"](x)).relu()
        return x


class SimclrV2(nn.Module):
    def __init__(self, spec: resnet50.Spec) -> None:
        super().__init__()
        first = spec.stages[0]
        stem = nn.Sequential(
            nn.Conv2d(3, first, 7, 2, 3, bias=False), SimclrStage.normalised(first),
            nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        stages, before = [], first
        for k, (inside, count) in enumerate(zip(spec.stages, spec.blocks, strict=True)):
            stages.append(SimclrStage(before, inside, count, 2 if k else 1))
            before = 4 * inside
        self.net, self.fc = nn.Sequential(stem, *stages), nn.Linear(before, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.net(x).mean(dim=(2, 3)))


NETWORKS = {
    "torchvision": lambda: monai_resnet(SPEC, 3, CLASSES),
    "simclr_v2": lambda: SimclrV2(SPEC),
}


def written(path, state: dict[str, torch.Tensor]):
    safetensors.torch.save_file({k: v.clone().contiguous() for k, v in state.items()}, path)
    return path


def state_of(layout: str, prefix: str = "") -> dict[str, torch.Tensor]:
    """Returns what a module of a layout holds, under a prefix."""
    state = shaken(NETWORKS[layout]()).state_dict()
    return {prefix + key: value.clone() for key, value in state.items()}


def logits(arrays: dict[str, np.ndarray], x: torch.Tensor) -> torch.Tensor:
    tensors = {name: torch.from_numpy(value).double() for name, value in arrays.items()}
    return batch_normed.forward(SPEC, tensors, x.flatten(1))


@pytest.mark.parametrize("layout", NETWORKS)
@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.", "module.encoder.", "backbone."])
def test_a_network_with_pretrained_weights_answers_as_theirs(tmp_path, layout, prefix):
    module = shaken(NETWORKS[layout]())
    file = written(tmp_path / "w.safetensors", state_of(layout, prefix))
    found = read_weights(file, SPEC)
    assert found.layout == layout
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    kinds = [key.rpartition(".")[2] for key in found.keys_ignored]
    assert kinds.count("num_batches_tracked") == CONVOLUTIONS
    assert {f"{prefix}fc.weight", f"{prefix}fc.bias"} <= set(found.keys_ignored)
    assert len(kinds) == CONVOLUTIONS + 2
    assert all(value.dtype == np.float32 for value in found.arrays.values())

    own = resnet50.initial_parameters(SPEC, SHAPE, CLASSES, [1, 2])
    begun = with_pretrained(own, found.arrays)
    assert set(own) - set(found.arrays) == {"w_output", "b_output"}
    for name in ("w_output", "b_output"):
        assert begun[name].tobytes() == own[name].tobytes()  # each member's own draw
        assert begun[name] is not own[name]
    assert (begun["w_output"][0] != begun["w_output"][1]).any()
    x = images(SHAPE, 4)
    begun["w_output"][:] = module.fc.weight.detach().numpy()
    begun["b_output"][:] = module.fc.bias.detach().numpy()
    expected = module.double()(x).detach()
    for k in range(2):
        torch.testing.assert_close(logits(begun, x)[k], expected)


def test_heads_beside_the_network_or_beside_what_holds_it_are_left_aside(tmp_path):
    state = state_of("torchvision", "module.encoder.")
    state = {key: value for key, value in state.items() if "fc" not in key}
    heads = ["module.encoder.fc.0.weight", "module.projection_head.2.bias", "head.layers.0.weight"]
    found = read_weights(
        written(tmp_path / "w.safetensors", state | dict.fromkeys(heads, torch.ones(2))), SPEC
    )
    assert {key for key in found.keys_ignored if "num_batches" not in key} == set(heads)


def test_files_need_no_counters_and_no_head(tmp_path):
    state = state_of("torchvision")
    bare = {k: v for k, v in state.items() if "num_batches" not in k and "fc." not in k}
    found = read_weights(written(tmp_path / "w.safetensors", bare), SPEC)
    assert found.keys_ignored == () and len(found.arrays) == 3 * CONVOLUTIONS + 2


def test_half_and_double_precision_become_single(tmp_path):
    for kind in (torch.float16, torch.float64):
        state = {k: v.to(kind) for k, v in state_of("torchvision").items() if "num" not in k}
        arrays = read_weights(written(tmp_path / "w.safetensors", state), SPEC).arrays
        assert arrays["w1"].dtype == np.float32
        np.testing.assert_array_equal(arrays["w1"], state["conv1.weight"].float())


def refusal(path, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        read_weights(path, SPEC, **options)
    assert str(path) in caught.value.where and caught.value.remedy
    return caught.value


def test_all_that_is_missing_not_known_or_of_another_shape_is_listed(tmp_path):
    state = state_of("torchvision", "encoder.")
    del state["encoder.bn1.bias"], state["encoder.layer4.1.conv2.weight"]
    state["encoder.layer5.0.conv1.weight"] = state["queue"] = torch.ones(3)
    state["encoder.layer1.0.conv1.weight"] = torch.ones(2, 2, 3, 3)
    said = refusal(written(tmp_path / "w.safetensors", state)).what
    assert "Missing: 2 (bn1.bias, layer4.1.conv2.weight)." in said
    assert "Not known: 2 (encoder.layer5.0.conv1.weight, queue)." in said
    shape = "Of another shape: 1 (layer1.0.conv1.weight [2, 2, 3, 3], not [2, 2, 1, 1])."
    assert shape in said


def test_of_many_names_the_first_20_are_shown_and_how_many_there_are(tmp_path):
    state = state_of("torchvision")
    more = {f"other.{k:02}": torch.ones(1) for k in range(25)}
    said = refusal(written(tmp_path / "w.safetensors", state | more)).what
    (shown,) = re.findall(r"Not known: 25 \((.*) and 5 more\)", said)
    assert shown.split(", ") == [f"other.{k:02}" for k in range(20)]


def test_images_of_other_channels_are_another_shape(tmp_path):
    file = written(tmp_path / "w.safetensors", state_of("torchvision"))
    grey = SPEC.model_copy(update={"mean": [0.5], "deviation": [1.0]})
    with pytest.raises(InputError, match=r"conv1.weight \[2, 3, 7, 7\], not \[2, 1, 7, 7\]"):
        read_weights(file, grey)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("bn1.weight", torch.tensor([1.0, torch.nan]), "NaN, infinite, or variances below 0: 1"),
        ("bn1.running_var", torch.tensor([1.0, -1e-3]), "variances below 0: 1 (bn1.running_var)"),
        ("bn1.running_mean", torch.tensor([torch.inf, 0.0]), "(bn1.running_mean)"),
        ("bn1.bias", torch.tensor([1, 2]), "No floating-point numbers: 1 (bn1.bias (int64))"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path, key, value, said):
    state = state_of("torchvision") | {key: value}
    assert said in refusal(written(tmp_path / "w.safetensors", state)).what


def test_a_file_of_two_networks_is_refused(tmp_path):
    both = state_of("torchvision", "encoder_q.") | state_of("torchvision", "encoder_k.")
    said = refusal(written(tmp_path / "w.safetensors", both)).what
    assert "several networks" in said and "'encoder_q.'" in said and "'encoder_k.'" in said


def test_names_of_no_layout_are_shown_beside_those_of_the_known_ones(tmp_path):
    state = {"stem.conv.weight": torch.ones(1), "fc.weight": torch.ones(1)}
    error = refusal(written(tmp_path / "w.safetensors", state))
    assert "It holds 2 (fc.weight, stem.conv.weight)" in error.what
    assert "conv1.weight" in error.remedy and "net.0.0.weight" in error.remedy


def test_the_sha256_must_be_the_one_that_is_given(tmp_path):
    file = written(tmp_path / "w.safetensors", state_of("torchvision"))
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    assert read_weights(file, SPEC, sha256=right.upper()).sha256 == right
    assert right in refusal(file, sha256="0" * 64).what


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.CKPT", "w.safetensors", "weights"])
@pytest.mark.parametrize("start", [b"PK\x03\x04 a zip archive", b"\x80\x02}q\x00."])
def test_pickles_are_refused_with_the_lines_that_turn_them_into_safetensors(tmp_path, name, start):
    file = tmp_path / name
    file.write_bytes(start)
    error = refusal(file)
    assert "pickle" in error.what
    lines = textwrap.dedent(error.remedy.partition(":\n")[2])
    compile(lines, "remedy", "exec")
    assert "weights_only=True" in lines and "w" in lines and "safetensors" in lines


@pytest.mark.parametrize("start", [b"", b"not safetensors, and no pickle either"])
def test_other_files_are_refused(tmp_path, start):
    file = tmp_path / "w.safetensors"
    assert "no such file" in refusal(file).what
    file.write_bytes(start)
    assert "not a complete safetensors file" in refusal(file).what


def test_a_type_that_numpy_lacks_is_refused(tmp_path):
    state = {key: value.bfloat16() for key, value in state_of("torchvision").items()}
    assert "bfloat16" in refusal(written(tmp_path / "w.safetensors", state)).what


def test_pretrained_arrays_of_another_network_are_refused():
    own = resnet50.initial_parameters(SPEC, SHAPE, CLASSES, [1])
    for arrays, said in (
        ({"w9": np.ones(2)}, "w9: not an array of this network"),
        ({"mean": np.ones(2)}, r"mean: \[2\], not \[190\]"),
    ):
        with pytest.raises(InputError, match=said):
            with_pretrained(own, arrays)


def test_what_is_written_out_comes_back_and_is_loaded_by_monai(tmp_path):
    arrays = moved(resnet50.initial_parameters(SPEC, SHAPE, CLASSES, [1, 2]))
    member = {name: value[1] for name, value in arrays.items()}
    out = torchvision_layout(SPEC, member)
    io.write_tensors(tmp_path / "own.safetensors", out)
    found = read_weights(tmp_path / "own.safetensors", SPEC)
    assert found.keys_ignored == ("fc.bias", "fc.weight")
    assert set(found.arrays) == set(member) - {"w_output", "b_output"}
    for name, value in found.arrays.items():
        assert value.tobytes() == member[name].tobytes(), name

    module = monai_resnet(SPEC, 3, CLASSES)
    module.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in out.items()})
    x = images(SHAPE, 3)
    torch.testing.assert_close(logits(arrays, x)[1], module.double().eval()(x).detach())


def test_the_full_network_has_the_arrays_of_torchvisions():
    """267 arrays but for counters: 53 convolutions, as many normalisations of 4, output."""
    spec = resnet50.Spec()
    network = spec.network()
    shapes = {"mean": (26_560,), "variance": (26_560,), "w_output": (2, 2048), "b_output": (2,)}
    for layer in network.layers():
        shapes[f"w{layer.name}"] = (layer.after, layer.before, layer.width, layer.width)
        shapes |= {f"{key}{layer.name}": (layer.after,) for key in ("scale", "shift")}
    member = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    out = {key: value.shape for key, value in torchvision_layout(spec, member).items()}
    assert len(out) == 53 * 5 + 2 == 267
    assert out["conv1.weight"] == (64, 3, 7, 7) and out["fc.weight"] == (2, 2048)
    assert out["layer2.0.conv2.weight"] == (128, 128, 3, 3)
    assert out["layer3.5.bn2.running_var"] == (256,)
    assert out["layer4.0.downsample.0.weight"] == (2048, 1024, 1, 1)
    assert out["layer4.2.conv3.weight"] == (2048, 512, 1, 1)
    assert not [key for key in out if key.startswith(("layer1.3", "layer3.6", "layer5"))]
