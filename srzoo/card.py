"""What goes beside a generator's weights: a model card for people and hubs, and a zoo file for srzoo."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .composition import third_party_parts
from .confinement import ENSEMBLE, leaves_its_folder, lies_here, without_path
from .costs import HR_SIZE, cost_of
from .entry import Entry, Recorded
from .errors import SrzooError
from .named import file_options
from .pretrained import Model
from .recipe import Training
from .report import format_value
from .zoo import get_zoo

_USE = {
    "safetensors": "`srzoo upscale photo.png --entry {file} --out large.png`",
    "safetensors, layout": "ComfyUI, chaiNNer and whatever reads layout `{layout}`",
    "pth": '`torch.load("{file}", weights_only=True)`, tensors under the names of srzoo\'s modules',
    "pth, layout": "ComfyUI, chaiNNer and whatever reads layout `{layout}`",
    "onnx": "input `lr` (N, 3, H, W), output `sr` (N, 3, {scale}H, {scale}W), all sizes dynamic",
    "torchscript": '`torch.jit.load("{file}")`, (N, 3, H, W) to (N, 3, {scale}H, {scale}W)',
}

_BACKBONES = {"lpips_alex": "alexnet", "lpips_squeeze": "squeezenet1_1", "lpips_vgg": "vgg16"}
"""Metric to the extractor that is its backbone."""


@dataclass(frozen=True)
class Written:
    """A file beside the card, and in which layout its tensors are: ``srzoo`` for our own, empty for a program."""

    name: str
    layout: str = ""


def card_name(folder: Path, model: str) -> str:
    """Return what the card of a model is called in a folder: README.md, unless that is of something else already."""
    path = folder / "README.md"
    return "README.md" if not path.exists() or f"\n# {model}\n" in _ours(path) else f"{model}.md"


def earlier_rows(path: Path, model: Model, files: Sequence[str]) -> list[str]:
    """Return the rows of a card that is there, of files other than these, if they are of the same weights."""
    text = _ours(path)
    if not text or (model.digest and model.digest not in text):
        return []
    found = re.findall(r"^\| `([^`]+)` \| .* \|$", text, flags=re.MULTILINE)
    there = [name for name in found if name not in files and (path.parent / name).is_file()]
    return [line for line in text.splitlines() if any(line.startswith(f"| `{name}` | ") for name in there)]


def _ours(path: Path) -> str:
    """Return the text of a card that srzoo wrote; empty if a file is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
    return text if text.startswith("---\nlibrary_name: srzoo\n") else ""


def model_card(model: Model, files: Mapping[str, Written], licence: str = "", rows: Sequence[str] = ()) -> str:
    """Return the card of a model as Markdown, with the header that Hugging Face reads.

    Args:
        files: format to the file beside the card.
        licence: of the weights, where the zoo does not say.
        rows: of the table of files, those of earlier exports.
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
        _files(files, entry.scale, model.size_multiple, rows),
        _composition(model),
        _training(model),
        _scores(model),
        f"## Licence\n\n{stated or 'Not stated: ask who gave you the weights before you pass them on.'}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _files(files: Mapping[str, Written], scale: int, size_multiple: int, earlier: Sequence[str]) -> str:
    rows = list(earlier)
    for form, file in files.items():
        use = _USE[form if file.layout in ("", "srzoo") else f"{form}, layout"]
        rows.append(f"| `{file.name}` | {use.format(file=file.name, scale=scale, layout=file.layout)} |")
    sides = f" Both sides of the input are multiples of {size_multiple}." if size_multiple > 1 else ""
    return "\n".join(["## Files", "", "| file | use |", "|---|---|", *rows]) + (
        f"\n\nImages are RGB with values in [0, 1]; the output is not clamped.{sides}"
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
        if model.entry.self_ensemble:
            cost += " A self-ensemble: the mean over the eight flips and quarter turns of the input, eight passes."
    except SrzooError:  # of a generator that is built from its file alone
        pass
    if packages := packages_of(model):
        names = " ".join(package.partition(" ")[0] for package in packages)
        cost += f"\n\nNeeds {' and '.join(packages)} beside srzoo: `pip install {names}`, or from its author.\n\n"
    digest = f" SHA-256 of the weights it was exported from: `{model.digest}`." if model.digest else ""
    return f"## Composition\n\n```yaml\n{text}```{cost}{digest}"


def packages_of(model: Model, recipe: Training | None = None) -> list[str]:
    """Return the packages that a model, and a recipe, need beside srzoo, each with the version it was made with."""
    entry = model.entry.model_copy(update={"training": recipe or model.entry.training})
    try:
        owners = {part.owner for part in third_party_parts(entry).values()}
    except SrzooError:  # of a recipe whose losses are not here; what is composed is
        owners = {part.owner for part in third_party_parts(entry.model_copy(update={"training": None})).values()}
    made_with: Any = model.description.get("plugins")
    then = made_with if isinstance(made_with, Mapping) else {}
    found = [str(then.get(owner.name, f"{owner.distribution} {owner.version}")) for owner in owners]
    return list(dict.fromkeys([*model.entry.requires, *sorted(found)]))


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
    ran = _run(model.entry.recorded, recipe)
    return f"## Training\n\nData: {data}.{_discriminator(model.entry)}{ran}\n\n```yaml\n{text}```"


def _discriminator(entry: Entry) -> str:
    """Return the discriminator that an entry was trained against, as a sentence after another."""
    if entry.discriminator is None:
        return ""
    written = _portable(entry.model_dump(mode="json", exclude_defaults=True)["discriminator"])
    text = yaml.safe_dump(written, sort_keys=False, default_flow_style=True, width=math.inf).strip()
    return f" Discriminator: `{text}`."


def _run(recorded: Recorded | None, recipe: Mapping[str, Any]) -> str:
    """Return what is known of the run, as a sentence after another."""
    if recorded is None or not recorded.command:
        return ""
    seed = recipe.get("seed", 0)
    stages = list(recipe.get("stages", {}).values())
    planned = stages[0].get("steps", 0) if len(stages) == 1 else 0  # of several, the record has the last one's
    of_all = f" of its {planned:,}" if recorded.steps and recorded.steps < planned else ""
    length = f": {recorded.steps:,}{of_all} steps" if recorded.steps else ""
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
    table = "\n".join([*lines, *_reservations(model.entry, metrics), *_self_ensembles(model)])
    return (
        f"## Scores\n\nProtocol `{recorded.protocol}`, x{model.entry.scale}; `srzoo verify {model.name}` computes them "
        f"again.\n\n{table}"
    )


def _reservations(entry: Entry, metrics: Sequence[str]) -> list[str]:
    """Return a paragraph on the metrics that look at an image by the network that a loss looked at it by."""
    stages = entry.training.stages.values() if entry.training is not None else ()
    found = [term.options.get("extractor") for stage in stages for term in stage.losses.values()]
    extractors = [extractor if isinstance(extractor, Mapping) else {"name": extractor} for extractor in found]
    names = {str(e.get("name")).rpartition("/")[2] for e in extractors if e.get("pretrained", True)}
    shared = [metric for metric in metrics if _BACKBONES.get(metric) in names]
    if not shared:
        return []
    return [
        "",
        f"A loss of its training looks at images by the backbone of {', '.join(shared)}, which favours it there.",
    ]


def _self_ensembles(model: Model) -> list[str]:
    """Return a paragraph on the entries that are self-ensembles of these weights."""
    if model.entry.weights is None:
        return []
    found = []
    for name in get_zoo().names():
        try:
            other = get_zoo().entry(name)
        except SrzooError:  # of a zoo file that has nothing to do with this model
            continue
        if other.self_ensemble and other.weights is not None and other.weights.sha256 == model.entry.weights.sha256:
            scores = other.recorded.scores if other.recorded is not None else {}
            told = "; ".join(f"{d} {' / '.join(map(format_value, values.values()))}" for d, values in scores.items())
            found += ["", f"Its self-ensemble is the entry `{other.name}`" + (f": {told}." if told else ".")]
    return found


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
    training: Training | None = None
    with contextlib.suppress(ValueError):  # of a recipe that this version cannot read, the card tells
        if recipe:
            training = Training.model_validate(recipe)
            trained = training.model_dump(mode="json", exclude_defaults=True)
            for key in {"start_from", "teacher"} & trained.keys():
                plain = trained[key].removesuffix(ENSEMBLE)
                if "/" in plain or plain not in get_zoo():  # a file, a run's folder, or one of several of a name
                    trained[key] = without_path(plain) + trained[key][len(plain) :]
            written["training"] = trained
    _drop_files(written, entry.model_copy(update={"training": training}))
    if "training" in written:
        written["training"] = _portable(written["training"])
    if packages := packages_of(model, training):
        written["requires"] = packages
    written["weights"] = {"file": file, "sha256": model.digest, **({"licence": stated} if stated else {})}
    name = re.sub(r"[^a-z0-9_.-]", "-", model.name.lower()).lstrip("-._") or "model"
    text = yaml.safe_dump({name: written}, sort_keys=False, default_flow_style=None, width=100)
    return f"# srzoo bench FOLDER, srzoo verify FOLDER, or srzoo --zoo FOLDER/zoo.yaml list\n{text}"


def _drop_files(written: dict[str, Any], entry: Entry) -> None:
    """Take what files losses and discriminator read out of an entry, as nobody else has them; or all that needs one."""
    for path, is_required in file_options(entry).items():
        if path[0] == "generator" or path[0] not in written:
            continue
        if is_required:  # a recipe without its discriminator, or the other way round, trains nothing
            written.pop("training", None)
            written.pop("discriminator", None)
            return
        below: Any = written
        for key in path[:-1]:
            below = below[key]
        del below[path[-1]]


def _portable(value: Any) -> Any:
    """Return plain values in which a path of this machine is its last part: a zoo file may hold no other."""
    if isinstance(value, Mapping):
        return {key: _portable(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(below) for below in value]
    return without_path(value) if isinstance(value, str) and (leaves_its_folder(value) or lies_here(value)) else value
