"""What goes beside a generator's weights: a model card for people and hubs, and a zoo file for srzoo."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from .confinement import leaves_its_folder, lies_here, without_path
from .costs import HR_SIZE, cost_of
from .errors import SrzooError
from .pretrained import Model
from .recipe import Recorded, Training
from .report import format_value
from .zoo import get_zoo

_USE = {
    "safetensors": "`srzoo upscale photo.png --entry {file} --out large.png`",
    "pth": '`torch.load("{file}", weights_only=True)`; ComfyUI, chaiNNer and whatever reads checkpoints',
    "onnx": "input `lr` (N, 3, H, W), output `sr` (N, 3, {scale}H, {scale}W), all sizes dynamic",
    "torchscript": '`torch.jit.load("{file}")`, (N, 3, H, W) to (N, 3, {scale}H, {scale}W)',
}


def model_card(model: Model, files: Mapping[str, str], layout: str, licence: str = "") -> str:
    """Return the card of a model as Markdown, with the header that Hugging Face reads.

    Args:
        files: format to name of the file beside the card.
        layout: whose names the tensors have.
        licence: of the weights, where the zoo does not say.
    """
    entry = model.entry
    stated = (entry.weights.licence if entry.weights is not None else "") or licence
    header = {
        "library_name": "srzoo",
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", f"x{entry.scale}", "srzoo"],
        **({"license": stated.lower()} if stated else {}),
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {model.name}",
        f"{entry.summary}. Upscales RGB images {entry.scale} times.",
        f"Paper: {entry.paper}" if entry.paper else "",
        _files(files, layout, entry.scale),
        _composition(model),
        _training(model),
        _scores(model),
        f"## Licence\n\n{stated or 'Not stated: ask who gave you the weights before you pass them on.'}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _files(files: Mapping[str, str], layout: str, scale: int) -> str:
    rows = [f"| `{name}` | {_USE[kind].format(file=name, scale=scale)} |" for kind, name in files.items()]
    names = f"\n\nTensors are named as in layout `{layout}`." if {"safetensors", "pth"} & files.keys() else ""
    return "\n".join(["## Files", "", "| file | use |", "|---|---|", *rows]) + (
        f"\n\nImages are RGB with values in [0, 1]; the output is not clamped.{names}"
    )


def _composition(model: Model) -> str:
    text = yaml.safe_dump(model.entry.composition(), sort_keys=False, default_flow_style=None, width=100)
    cost = ""
    try:
        counted = cost_of(model.entry)
        cost = (
            f"\n\n{counted.parameters:,} parameters; {counted.multiply_adds / 1e9:,.1f} G multiply-adds for an output "
            f"of {HR_SIZE[1]}x{HR_SIZE[0]}."
        )
    except SrzooError:  # of a generator that is built from its file alone
        pass
    digest = f" SHA-256 of the weights it was exported from: `{model.digest}`." if model.digest else ""
    return f"## Composition\n\n```yaml\n{text}```{cost}{digest}"


def _training(model: Model) -> str:
    recipe: Any = model.description.get("training")
    if recipe is None and model.entry.training is not None:
        recipe = model.entry.training.model_dump(mode="json")
    imported = model.description.get("imported")
    if isinstance(imported, Mapping):
        return (
            f"## Training\n\nNot known: imported from `{imported.get('file')}` (layout `{imported.get('layout')}`, "
            f"SHA-256 `{imported.get('sha256')}`)."
        )
    if not isinstance(recipe, Mapping):
        return ""
    data = ", ".join(map(str, _portable(list(recipe.get("data", ()))))) or "not stated"
    with contextlib.suppress(ValueError):  # without the defaults, unless it was trained by another version
        recipe = Training.model_validate(recipe).model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(_portable(recipe), sort_keys=False, default_flow_style=None, width=100)
    ran = _run(model.entry.recorded, recipe.get("seed", 0))
    return f"## Training\n\nData: {data}.{ran}\n\n```yaml\n{text}```"


def _run(recorded: Recorded | None, seed: object) -> str:
    """Return what is known of the run, as a sentence after another."""
    if recorded is None or not recorded.command:
        return ""
    length = f": {recorded.steps:,} steps" if recorded.steps else ""
    time = f" in {recorded.hours:g} hours" if recorded.hours else ""
    place = f" on {recorded.device}" if recorded.device else ""
    date = f", {recorded.date}" if recorded.date else ""
    return f" Trained by `{recorded.command}`, seed {seed}{length}{time}{place}{date}."


def _scores(model: Model) -> str:
    recorded = model.entry.recorded
    if recorded is None or not recorded.scores:
        return f"## Scores\n\nNone recorded; `srzoo bench {model.name}` computes some."
    metrics = list(dict.fromkeys(metric for scores in recorded.scores.values() for metric in scores))
    lines = [f"| dataset | {' | '.join(metrics)} |", f"|---|{'--:|' * len(metrics)}"]
    for dataset, scores in recorded.scores.items():
        cells = [format_value(scores[metric]) if metric in scores else "-" for metric in metrics]
        lines.append(f"| {dataset} | {' | '.join(cells)} |")
    table = "\n".join(lines)
    return (
        f"## Scores\n\nProtocol `{recorded.protocol}`, x{model.entry.scale}; `srzoo verify {model.name}` computes them "
        f"again.\n\n{table}"
    )


def zoo_text(model: Model, file: str, licence: str = "") -> str:
    """Return a zoo file with the entry of a model, whose weights lie beside it.

    Args:
        file: name of the weight file; its bytes are those that the model was loaded from.
        licence: of the weights, where the zoo does not say.
    """
    entry = model.entry
    stated = (entry.weights.licence if entry.weights is not None else "") or licence
    left_out: Any = {"name": True, "weights": True, "training": True, "recorded": {"log"}}  # the log stays where it is
    written = entry.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    recipe: Any = model.description.get("training") or (entry.training and entry.training.model_dump(mode="json"))
    with contextlib.suppress(ValueError):  # of a recipe that this version cannot read, the card tells
        if recipe:
            trained = Training.model_validate(recipe).model_dump(mode="json", exclude_defaults=True)
            start = trained.get("start_from")
            if start and "/" in start and start not in get_zoo():  # the folder of a run
                trained["start_from"] = without_path(start)
            written["training"] = _portable(trained)
    written["weights"] = {"file": file, "sha256": model.digest, **({"licence": stated} if stated else {})}
    name = re.sub(r"[^a-z0-9_.-]", "-", model.name.lower()).lstrip("-._") or "model"
    text = yaml.safe_dump({name: written}, sort_keys=False, default_flow_style=None, width=100)
    return f"# srzoo bench FOLDER, srzoo verify FOLDER, or srzoo --zoo FOLDER/zoo.yaml list\n{text}"


def _portable(value: Any) -> Any:
    """Return plain values in which a path of this machine is its last part: a zoo file may hold no other."""
    if isinstance(value, Mapping):
        return {key: _portable(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(below) for below in value]
    return without_path(value) if isinstance(value, str) and (leaves_its_folder(value) or lies_here(value)) else value
