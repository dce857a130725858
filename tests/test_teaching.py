"""Teachers: what a term with ``reference: teacher`` compares with, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pictures import photographs
from tiny import TINY, TINY_GAN

import srzoo
from srzoo.ablation.estimate import step_seconds
from srzoo.ablation.plan import Plan, Run, _digest, lineage, make_plan
from srzoo.ablation.recipe import read_recipe
from srzoo.ablation.results import StepCost
from srzoo.ablation.work import ablate
from srzoo.audit import audit
from srzoo.benchmark import bench
from srzoo.compose import Term, build_terms
from srzoo.confinement import Name
from srzoo.entry import Entry
from srzoo.errors import CompositionError, EntryError, InputError, MissingWeightsError, RecipeWarning, UnknownNameError
from srzoo.hub import pull, push
from srzoo.inference import in_view, self_ensemble
from srzoo.pretrained import load_model
from srzoo.recipe import LossTerm
from srzoo.tasks import PixelTask
from srzoo.teaching import Teacher, teacher_of
from srzoo.training import train
from srzoo.weights import read_checkpoint, save_checkpoint
from srzoo.zoo import get_zoo, training_entry

torch.set_num_threads(1)

TEACHER = "espcn-lite-x4"
STUDENT = "srresnet-lite-x4"
LOSSES = "training.stages.psnr.losses"
TAUGHT: dict[str, Any] = {
    **TINY,
    "training.start_from": None,
    "training.teacher": TEACHER,
    f"{LOSSES}.l1": None,
    f"{LOSSES}.imitation": {"name": "l1", "reference": "teacher"},
}
CPU = torch.device("cpu")


def taught(**changes: Any) -> Entry:
    return training_entry(STUDENT, None, None, {**TAUGHT, **{k.replace("__", "."): v for k, v in changes.items()}})


def teacher(name: str = TEACHER) -> Teacher:
    return Teacher(load_model(name), CPU, nullcontext)


def weights(out: Path) -> dict[str, torch.Tensor]:
    (file,) = out.glob("*.safetensors")
    return read_checkpoint(file)[0]


# --- what it compares with ------------------------------------------------------------------------------------


def test_the_views_are_those_of_the_self_ensemble() -> None:
    generator, lr = srzoo.create_generator(TEACHER, pretrained=True), torch.rand(2, 3, 9, 7)
    views = torch.stack([in_view(generator, lr, view) for view in range(8)])
    torch.testing.assert_close(views.mean(0), self_ensemble(generator)(lr))
    assert len({tuple(view.flatten().tolist()) for view in views}) == 8, "no view twice"


def test_a_teacher_adds_what_it_makes_of_the_input() -> None:
    batch = {"lr": torch.rand(2, 3, 8, 8), "hr": torch.rand(2, 3, 32, 32)}
    found = teacher().added_to(batch, 5)
    assert found["lr"] is batch["lr"] and found["hr"] is batch["hr"] and "teacher" not in batch
    wanted = srzoo.create_generator(TEACHER, pretrained=True).eval()(batch["lr"]).detach()
    torch.testing.assert_close(found["teacher"], wanted.clamp(0, 1))
    assert not found["teacher"].requires_grad and found["teacher"].is_contiguous()
    assert torch.equal(found["teacher"], teacher().added_to(batch, 6)["teacher"])


def test_a_self_ensemble_teaches_a_view_an_update_and_all_eight_in_turn() -> None:
    torch.manual_seed(0)
    batch = {"lr": torch.rand(2, 3, 8, 8) * 0.2 + 0.4}  # so that nothing is clamped
    made = torch.stack([teacher(f"{TEACHER}+").added_to(batch, number)["teacher"] for number in range(16)])
    assert torch.equal(made[:8], made[8:])
    wanted = load_model(f"{TEACHER}+").generator(batch["lr"]).detach()
    torch.testing.assert_close(made[:8].mean(0), wanted)


def test_a_teacher_computes_a_batch_in_as_many_parts_as_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    lr, seen = torch.rand(4, 3, 8, 8), []
    model = load_model(TEACHER)
    model.generator.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr("srzoo.teaching.load_model", lambda reference: model)
    made = teacher_of(taught(training__accumulate=2), CPU, nullcontext)
    assert made is not None
    whole = Teacher(load_model(TEACHER), CPU, nullcontext).added_to({"lr": lr}, 0)["teacher"]
    torch.testing.assert_close(made.added_to({"lr": lr}, 0)["teacher"], whole)
    assert seen == [2, 2]


def test_the_views_go_by_the_generators_updates_and_not_by_the_discriminators() -> None:
    """With 8 steps of the discriminator for one of the generator, step % 8 would be one view for ever."""
    stage = (
        taught()
        .training.stages["psnr"]
        .model_copy(  # type: ignore[union-attr]
            update={"discriminator_steps": 8, "discriminator_warmup": 3}
        )
    )
    trained = [step for step in range(3 + 8 * 9) if stage.trains_generator(step)]
    assert [stage.updates_before(step) for step in trained] == list(range(9))
    plain = taught().training.stages["psnr"]  # type: ignore[union-attr]
    assert [plain.updates_before(step) for step in range(9)] == list(range(9))


def test_a_term_that_imitates_pulls_towards_the_teacher_and_the_others_towards_the_photograph() -> None:
    batch = {key: torch.rand(2, 3, 32, 32) for key in ("hr", "teacher")} | {"lr": torch.rand(2, 3, 8, 8)}
    generator = srzoo.create_generator(STUDENT, num_features=4, num_blocks=1)
    mse = srzoo.create("loss", "mse")
    terms = [
        Term("mse", LossTerm(name="mse", weight=0.25), "pixel", mse),
        Term("imitation", LossTerm(name="mse", weight=0.75, reference="teacher"), "pixel", mse),
    ]
    outcome = PixelTask(generator, terms).run(batch)
    found = [parameter.grad.clone() for parameter in generator.parameters() if parameter.grad is not None]
    sr = generator(batch["lr"])
    parts = [0.25 * (sr - batch["hr"]).square().mean(), 0.75 * (sr - batch["teacher"]).square().mean()]
    wanted = torch.autograd.grad(sum(parts), list(generator.parameters()))  # type: ignore[arg-type]
    torch.testing.assert_close(outcome.losses, {"mse": parts[0].detach(), "imitation": parts[1].detach()})
    torch.testing.assert_close(found, list(wanted))


def test_the_terms_of_intermediate_outputs_may_imitate_as_well() -> None:
    batch = {key: torch.rand(1, 3, 32, 32) for key in ("hr", "teacher")} | {"lr": torch.rand(1, 3, 8, 8)}
    generator = srzoo.create_generator("drcn-x4", num_features=4, recursions=3)
    term = Term(
        "imitation",
        LossTerm(name="mse", supervises="intermediate", reference="teacher"),
        "pixel",
        srzoo.create("loss", "mse"),
    )
    found = PixelTask(generator, [term]).run(batch).losses["imitation"]
    _, intermediate = generator(batch["lr"], intermediate=True)
    torch.testing.assert_close(found, (intermediate - batch["teacher"]).square().mean().detach())


# --- a run ----------------------------------------------------------------------------------------------------


def test_a_student_comes_closer_to_its_teacher(tmp_path: Path, photos: str) -> None:
    changes = {**TAUGHT, "training.stages.psnr.optimizer.lr": 2e-3, "training.batch_size": 4}
    train(STUDENT, tmp_path, data=photos, steps=120, overrides=changes, log_every=10)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    values = [record["losses"]["imitation"] for record in records if "losses" in record]
    assert sum(values[-3:]) < 0.8 * sum(values[:3])


def test_a_run_with_a_teacher_that_is_interrupted_ends_with_the_same_bytes(tmp_path: Path, photos: str) -> None:
    """The view of a step is a function of its number."""
    changes = {**TAUGHT, "training.teacher": f"{TEACHER}+"}
    train(STUDENT, tmp_path / "whole", data=photos, steps=6, overrides=changes)

    def stop(stage: str, step: int, steps: int, values: Any) -> None:
        if step == 3 and values:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"log_every": 1, "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        train(STUDENT, tmp_path / "parts", data=photos, steps=6, overrides=changes, progress=stop, **options)
    train(STUDENT, tmp_path / "parts", data=photos, steps=6, overrides=changes, **options)
    left, right = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("named", [TEACHER, f"{TEACHER}+"])
@pytest.mark.filterwarnings("ignore:.*trained on.*:UserWarning")
def test_a_generator_that_starts_from_its_teacher_has_nothing_to_imitate_at_first(
    tmp_path: Path, photos: str, named: str
) -> None:
    """In the first step it makes what the teacher makes: that is no loss without a gradient."""
    changes: dict[str, Any] = {
        "training.start_from": TEACHER,
        "training.teacher": named,
        "training.patch_size": 32,
        "training.batch_size": 2,
        "training.precision": "fp32",
        "training.multiscale": [1.0],
        "training.validation": None,
        f"{LOSSES}.imitation": {"name": "l1", "reference": "teacher"},
    }
    recipe = get_zoo().entry(TEACHER).training
    assert recipe is not None
    changes |= {f"{LOSSES}.{label}": None for label in recipe.stages["psnr"].losses}
    train(TEACHER, tmp_path, data=photos, steps=2, overrides=changes, log_every=1)
    assert all(not row.problem for row in audit(TEACHER, data=photos, overrides=changes).rows)


def test_a_teacher_is_not_asked_for_once_nothing_is_left_to_imitate(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(STUDENT, tmp_path, data=photos, steps=2, overrides=TAUGHT, checkpoint_every=1)

    def gone(reference: str) -> Any:
        raise MissingWeightsError("gone")

    monkeypatch.setattr("srzoo.teaching.load_model", gone)
    assert train(STUDENT, tmp_path, data=photos, steps=2, overrides=TAUGHT, checkpoint_every=1).resumed_at == 2
    sorted((tmp_path / "states").glob("*.pt"))[-1].unlink()
    with pytest.raises(MissingWeightsError, match=r"training\.teacher: gone"):
        train(STUDENT, tmp_path, data=photos, steps=2, overrides=TAUGHT, checkpoint_every=1)


GAN: dict[str, Any] = {
    **TINY_GAN,
    "training.teacher": TEACHER,
    "generator.block": "residual",
    "training.stages.gan.losses.imitation": {"name": "l1", "reference": "teacher"},
}


def gan(**changes: Any) -> dict[str, Any]:
    """Two stages, of which the one before the last imitates nothing."""
    recipe = get_zoo().entry("esrgan-x4").training
    assert recipe is not None and list(recipe.stages) == ["psnr", "gan"]
    return {**GAN, **{key.replace("__", "."): value for key, value in changes.items()}}


def test_a_stage_that_imitates_nothing_runs_no_teacher_and_does_not_claim_one(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []
    added = Teacher.added_to
    monkeypatch.setattr(
        Teacher, "added_to", lambda self, batch, number: numbers.append(number) or added(self, batch, number)
    )
    changes = gan(training__stages__gan__discriminator_steps=2)
    train("esrgan-x4", tmp_path, data=photos, steps=14, overrides=changes, checkpoint_every=1)
    psnr = read_checkpoint(tmp_path / "checkpoints" / "psnr.safetensors")[1]["training"]
    assert "teacher" not in psnr
    (whole,) = tmp_path.glob("*.safetensors")
    recipe = read_checkpoint(whole)[1]["training"]
    assert recipe["teacher"] == TEACHER
    steps = recipe["stages"]["gan"]["steps"]
    assert numbers == [0, *(step // 2 for step in range(steps))], "once for the rehearsal"


def test_the_advice_after_a_failure_leaves_no_teacher_without_a_pupil(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        **gan(),
        "training.stages.psnr.losses.imitation": {"name": "l1", "reference": "teacher"},
        "training.stages.gan.losses.imitation": None,
        "training.stages.gan.optimizer.lr": 1e30,
    }
    del changes["training.stages.gan.losses.imitation"]
    with pytest.raises(srzoo.SrzooError, match=r"psnr=null training\.teacher=null") as caught:
        train("esrgan-x4", tmp_path / "run", data=photos, steps=12, overrides=changes, log_every=1)
    assert "not finite" in str(caught.value)


def test_the_plan_names_the_teacher(tmp_path: Path, photos: str) -> None:
    told: list[str] = []
    train(STUDENT, tmp_path, data=photos, steps=1, overrides=TAUGHT, announce=told.append)
    assert f"taught by {TEACHER};" in told[0]


def test_a_run_may_be_taught_by_another_run(tmp_path: Path, photos: str) -> None:
    train(STUDENT, tmp_path / "first", data=photos, steps=1, overrides={**TINY, "training.start_from": None})
    changes = {**TAUGHT, "training.teacher": str(tmp_path / "first")}
    train(STUDENT, tmp_path / "second", data=photos, steps=2, overrides=changes, checkpoint_every=1)
    (file,) = (tmp_path / "first").glob("*.safetensors")
    tensors, description = read_checkpoint(file)
    save_checkpoint(file, {name: 2 * tensor for name, tensor in tensors.items()}, description)
    sorted((tmp_path / "second" / "states").glob("*.pt"))[-1].unlink()
    with pytest.warns(RecipeWarning, match="first, its teacher, has other weights or parts than"):
        train(STUDENT, tmp_path / "second", data=photos, steps=2, overrides=changes, checkpoint_every=1)


def test_the_audit_sees_what_is_imitated(photos: str) -> None:
    (row,) = audit(STUDENT, data=photos, overrides=TAUGHT).rows
    assert row.term == "imitation" and not row.problem and row.generator


def test_a_failure_keeps_what_the_teacher_made_and_is_replayed_without_it(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = Teacher.added_to

    def broken(self: Teacher, batch: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        found = added(self, batch, step)
        return {**found, "teacher": found["teacher"] * float("nan")} if step == 2 else found

    monkeypatch.setattr(Teacher, "added_to", broken)
    with pytest.raises(srzoo.SrzooError, match="step 3: not finite: imitation"):
        train(STUDENT, tmp_path, data=photos, steps=4, overrides=TAUGHT, log_every=1)
    (failure,) = tmp_path.glob("failure*.pt")
    assert torch.load(failure, weights_only=True)["batch"]["teacher"].isnan().all()
    monkeypatch.undo()
    assert audit(STUDENT, replay=failure).reproduced


def test_a_recipe_without_a_teacher_is_written_as_before_there_were_any() -> None:
    plain = get_zoo().entry(STUDENT).training
    assert plain is not None
    written = plain.model_dump(mode="json")
    assert "teacher" not in written and "reference" not in written["stages"]["psnr"]["losses"]["l1"]
    recipe = taught().training
    assert recipe is not None
    written = recipe.model_dump(mode="json")
    assert written["teacher"] == TEACHER
    assert written["stages"]["psnr"]["losses"]["imitation"]["reference"] == "teacher"
    assert type(recipe).model_validate(written) == recipe


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"training.teacher": None}, CompositionError, r"imitation: reference: teacher, and the recipe has none; give"),
        (
            {f"{LOSSES}.imitation": {"name": "l1"}},
            InputError,
            r"no term compares with what espcn-lite-x4 makes.*teacher=null",
        ),
        ({"training.teacher": "espcn-light-x4"}, UnknownNameError, r"training\.teacher: .*'espcn-lite-x4'"),
        ({"training.teacher": "esrgan-x4"}, MissingWeightsError, r"training\.teacher: .*srzoo train esrgan-x4"),
        ({"scale": 2}, InputError, r"teacher: espcn-lite-x4 enlarges by 4, and the entry by 2"),
        ({f"{LOSSES}.imitation.reference": "teach"}, EntryError, r"imitation\.reference"),
    ],
)
def test_what_cannot_be_taught_is_refused_before_anything_is_written(
    tmp_path: Path, photos: str, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        train(STUDENT, tmp_path / "run", data=photos, steps=1, overrides={**TAUGHT, **changes})
    assert not (tmp_path / "run").exists()


def test_only_terms_that_compare_images_imitate() -> None:
    changes = {
        "training.teacher": TEACHER,
        "training.stages.gan.losses.perceptual": None,
        "training.stages.gan.losses.adversarial.reference": "teacher",
    }
    entry = training_entry("srgan-lite-x4", None, None, changes)
    with pytest.raises(CompositionError, match="'reference' is for pixel and perceptual terms, not for adversarial"):
        build_terms(entry, "gan")


def test_a_teacher_that_does_not_take_the_patches_is_told_with_a_size_that_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load_model(TEACHER)
    object.__setattr__(model, "size_multiple", 16)
    monkeypatch.setattr("srzoo.teaching.load_model", lambda reference: model)
    with pytest.raises(InputError, match=r"multiples of 16; make training\.patch_size, now 32, a multiple of 64"):
        teacher_of(taught(), CPU, nullcontext)


def test_a_teacher_of_other_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(TEACHER)
    monkeypatch.setattr(model.generator, "forward", lambda lr: torch.zeros(len(lr), 1, 32, 32))
    with pytest.raises(
        InputError, match=r"espcn-lite-x4 maps \(2, 3, 8, 8\) to \(2, 1, 32, 32\), not \(2, 3, 32, 32\)"
    ):
        Teacher(model, CPU, nullcontext).added_to({"lr": torch.rand(2, 3, 8, 8)}, 0)


def test_a_mistyped_reference_is_told_which_key_is_meant() -> None:
    with pytest.raises(InputError, match=r"refrence.*'reference'"):
        get_zoo().entry(STUDENT, {f"{LOSSES}.l1": {"weight": 1.0, "refrence": "teacher"}})


def test_a_teacher_that_fails_is_named(tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(TEACHER)
    monkeypatch.setattr(model.generator, "forward", lambda lr: lr.no_such_thing)
    monkeypatch.setattr("srzoo.teaching.load_model", lambda reference: model)
    with pytest.raises(InputError, match=r"training\.teacher: espcn-lite-x4 failed: .*no_such_thing"):
        train(STUDENT, tmp_path / "run", data=photos, steps=1, overrides=TAUGHT)


# --- strangers, and what is known of a student ------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "own.yaml"
    monkeypatch.setenv("SRZOO_ZOO", str(path))
    get_zoo.cache_clear()
    yield path
    get_zoo.cache_clear()


@pytest.mark.parametrize("named", ["runs/mine", "runs/mine+", "/runs/mine", "mine.safetensors"])
def test_a_zoo_file_names_no_path_as_a_teacher(own: Path, named: str) -> None:
    own.write_text(yaml.safe_dump({"mine": {"extends": STUDENT, "training.teacher": named}}))
    with pytest.raises(EntryError, match=r"training\.teacher"):
        get_zoo().entry("mine")


def test_a_zoo_file_does_not_mean_a_folder_that_is_called_so(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own.write_text(yaml.safe_dump({"mine": {"extends": STUDENT, "training.teacher": "run+"}}))
    (own.parent / "run").mkdir()
    monkeypatch.chdir(own.parent)
    recipe = get_zoo().entry("mine", {key: value for key, value in TAUGHT.items() if key.startswith(LOSSES)})
    assert recipe.training is not None and isinstance(recipe.training.teacher, Name)
    with pytest.raises(UnknownNameError, match=r"no entry is called 'run\+'.*training\.teacher=PATH"):
        teacher_of(recipe, CPU, nullcontext)


def test_what_the_teacher_was_trained_on_counts_as_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photographs(tmp_path / "photographs", {"a": (64, 48), "b": (48, 96)})
    first = training_entry(TEACHER, [str(folder)], None, {})
    tensors, description = read_checkpoint(load_model(STUDENT).path or Path())
    recipe = {**description["training"], "start_from": None, "data": ["no-such-set"], "teacher": f"{TEACHER}+"}
    save_checkpoint(tmp_path / "mine.safetensors", tensors, {**description, "training": recipe})
    original = type(get_zoo()).entry
    monkeypatch.setattr(type(get_zoo()), "entry", lambda own, name: first if name == TEACHER else original(own, name))
    with pytest.warns(RecipeWarning, match="mine: trained on 2 of the benchmarked images"):
        bench(str(tmp_path / "mine.safetensors"), str(folder), "psnr")


@pytest.mark.parametrize("named", ["/home/me/mine.safetensors", "runs/mine+", f"{TEACHER}+"])
def test_a_teacher_in_a_sent_model_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.chdir(tmp_path)
    tensors, description = read_checkpoint(load_model(STUDENT).path or Path())
    recipe = {**description["training"], "teacher": named}
    save_checkpoint(Path("mine.safetensors"), tensors, {**description, "training": recipe})
    push("mine.safetensors", "./shared")
    training = pull("./shared").entry.training
    assert training is not None
    assert training.teacher == {"/home/me/mine.safetensors": "mine", "runs/mine+": "mine+"}.get(named, named)


# --- ablations ------------------------------------------------------------------------------------------------

RECIPE = """
title: Teachers
summary: With and without
columns:
  - {label: plain, entry: student}
  - {label: taught, entry: student-taught}
rows: [{label: teacher, key: training.teacher, otherwise: none}]
entries:
  student:
    extends: esrgan-x4
    generator.num_blocks: 1
    training.data: photos
    training.stages.gan.losses.perceptual: null
  student-taught:
    extends: student
    training.teacher: TEACHER
    training.stages.gan.losses.imitation: {name: l1, weight: 0.01, reference: teacher}
budgets:
  little: {summary: Little, data: photos, metrics: psnr}
"""


def _recipe(folder: Path, teacher: str) -> Path:
    path = folder / "teachers.yaml"
    path.write_text(RECIPE.replace("TEACHER", teacher))
    return path


def all_runs(plan: Plan) -> list[Run]:
    return list({run.digest: run for planned in plan.trained for run in lineage(planned.runs[0])}.values())


def test_a_stage_that_imitates_nothing_is_shared_with_columns_that_have_no_teacher(tmp_path: Path) -> None:
    plan = make_plan(read_recipe(_recipe(tmp_path, f"{TEACHER}+")), "little")
    recipes = [run.entry.training for run in all_runs(plan)]
    assert len(recipes) == 3, "one stage psnr, two stages gan"
    (imitating,) = [recipe for recipe in recipes if recipe is not None and recipe.teacher is not None]
    assert imitating.stages.keys() == {"gan"}


def test_columns_of_other_teachers_are_other_runs(tmp_path: Path) -> None:
    plans = [make_plan(read_recipe(_recipe(tmp_path, name)), "little") for name in (TEACHER, "srcnn-lite-x4")]
    left, right = ({run.digest for run in all_runs(plan)} for plan in plans)
    assert len(left) == 3 and len(left - right) == 1


def test_an_ablation_trains_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"training\.teacher: .*srzoo train esrgan-x4"):
        ablate(_recipe(tmp_path, "esrgan-x4"), "little", tmp_path / "out")
    assert not (tmp_path / "out").exists(), "told before anything is done"
    with pytest.raises(InputError, match=r"'student', which a zoo file gives, is no entry .* trains no teachers"):
        make_plan(read_recipe(_recipe(tmp_path, "student")), "little")


def test_where_a_teachers_file_lies_decides_nothing(tmp_path: Path, photos: str) -> None:
    entry, digests = taught(), []
    train(STUDENT, tmp_path / "first", data=photos, steps=1, overrides={**TINY, "training.start_from": None})
    (file,) = (tmp_path / "first").glob("*.safetensors")
    for reference in (tmp_path / "first", file, f"{file}+"):
        assert entry.training is not None
        recipe = entry.training.model_copy(update={"teacher": str(reference)})
        digests.append(_digest(entry.model_copy(update={"training": recipe}), None))
    assert digests[0] == digests[1] != digests[2]
    (tmp_path / "empty").mkdir()
    recipe = entry.training.model_copy(update={"teacher": str(tmp_path / "empty")})  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"training\.teacher: .*empty holds no weights"):
        _digest(entry.model_copy(update={"training": recipe}), None)


def test_the_estimate_counts_the_teachers_pass(tmp_path: Path) -> None:
    plan = make_plan(read_recipe(_recipe(tmp_path, TEACHER)), "little")
    plain, imitating = (planned.runs[0] for planned in plan.trained)
    terms = [Term("l1", LossTerm(name="l1"), "pixel", None)]
    cost = StepCost(100.0, 100.0, 100.0, 0, "fp32")
    assert step_seconds(imitating, terms, cost) > step_seconds(plain, terms, cost) == pytest.approx(0.1)
