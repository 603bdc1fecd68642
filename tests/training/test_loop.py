"""The loop against a training written out by hand, and what it does when numbers break."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.training import loop, setup
from mlrec.training.dataloader import Batch
from mlrec.training.loop import Epoch, Event, Network, Steps, fit, step_seed
from mlrec.training.state import State
from mlrec.utils.errors import ModelError, RunError
from tests.conftest import Notes

CPU = torch.device("cpu")
DATA = Manifest("d", "train", Path(), ("a", "b", "c"), ("x.jpg",), np.zeros((1, 3), np.int8))
PLAIN = Config(
    backbone="test_resnet", head="average", pretrained=False, img_size=32, epochs=2, lr=0.1, batch_size=4,
    head_lr_mult=2.0, channels_last=False, lr_schedule="step", lr_step_epochs=1, normalization="half",
)  # fmt: skip


def changed(**keys: object) -> Config:
    return Config(**{name: getattr(PLAIN, name) for name in PLAIN.__struct_fields__} | keys)


def batches(count: int, size: int = 4, broken: int | None = None) -> list[Batch]:
    rng = torch.Generator().manual_seed(0)
    made = []
    for k in range(count):
        images = torch.randint(0, 256, (size, 3, 32, 32), generator=rng, dtype=torch.uint8)
        targets = torch.randint(0, 2, (size, 3), generator=rng).to(torch.int8)
        made.append(Batch(images, targets, torch.arange(size) + (1000 if k == broken else 0)))
    return made


def mean_loss(logits: Tensor, targets: Tensor, epoch: int = 0) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, targets.float())


def made(config: Config) -> tuple[State, Network]:
    model = setup.build_model(config, DATA, paper=False)
    state = setup.make_state(model, config, CPU, "fp32")
    return state, setup.make_network(state, config, CPU, "fp32")


def run(config: Config, given: list[Batch], steps: int) -> tuple[State, list[Event]]:
    state, network = made(config)
    return state, list(fit(state, network, iter(given), mean_loss, config, steps_per_epoch=steps))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_two_epochs_are_those_of_a_loop_written_out_by_hand() -> None:
    state, events = run(PLAIN, batches(6), 3)
    model = setup.build_model(PLAIN, DATA, paper=False)
    backbone, head = [p for p in model.backbone.parameters() if p.requires_grad], list(model.head.parameters())
    optimizer = torch.optim.SGD([{"params": head}, {"params": backbone}], lr=0.1, momentum=0.9, weight_decay=1e-4)
    losses = []
    model.train()
    for k, batch in enumerate(batches(6)):
        for group, factor in zip(optimizer.param_groups, (2, 1), strict=True):
            group["lr"] = factor * (0.1 if k < 3 else 0.01)
        loss = mean_loss(model((batch.images / 255 - 0.5) / 0.5), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    steps = [event for event in events if isinstance(event, Steps)]
    assert [event.loss for event in steps] == pytest.approx(losses, rel=1e-5)
    assert [event.lr for event in steps] == pytest.approx([0.1] * 3 + [0.01] * 3)
    assert torch.allclose(weights(state.model), weights(model), atol=1e-5)
    epochs = [event for event in events if isinstance(event, Epoch)]
    assert [(e.epoch, e.step) for e in epochs] == [(0, 3), (1, 6)]
    assert epochs[0].loss == pytest.approx(sum(losses[:3]) / 3, rel=1e-5)


def test_frozen_batch_norm_keeps_its_statistics_and_trains_its_factors() -> None:
    untrained = setup.build_model(PLAIN, DATA, paper=False)
    norms = [name for name, part in untrained.named_modules() if isinstance(part, nn.BatchNorm2d)]
    for kept in (True, False):
        model = run(changed(freeze_bn=kept), batches(6), 3)[0].model
        for name in norms:
            before, after = untrained.get_submodule(name), model.get_submodule(name)
            assert bool((before.running_mean == after.running_mean).all()) is kept
            assert bool((before.running_var == after.running_var).all()) is kept
            assert (before.weight != after.weight).any()
    assert norms


@pytest.mark.parametrize(("backbone", "expected"), [("test_resnet", 1), ("test_vit", 0)])
def test_frozen_statistics_of_a_random_backbone_are_warned_of(backbone: str, expected: int, notes: Notes) -> None:
    setup.build_model(changed(freeze_bn=True, backbone=backbone), DATA, paper=False)
    assert sum("freeze_bn: the BatchNorm statistics of a randomly" in line for line in notes.warnings) == expected


def test_training_stops_at_the_step_in_which_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where losses are fetched rarely too, as on a GPU: here once per epoch."""
    monkeypatch.setattr(loop, "_sync_is_due", lambda state, device, config, steps: state.batch == steps)
    state, network = made(PLAIN)
    events = fit(
        state, network, iter(batches(6)), mean_loss, PLAIN, steps_per_epoch=3, stopping=lambda: state.step == 2
    )
    event = next(events)
    assert isinstance(event, Steps)
    assert (event.step, event.steps, event.stopped, state.step, state.batch) == (2, 2, True, 2, 2)
    following = next(events)
    assert isinstance(following, Steps)
    assert (following.step, following.stopped) == (3, False)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    config = changed(backbone="test_vit", epochs=1)  # no BatchNorm, whose statistics are of each part
    whole, events = run(config, batches(3, 5), 3)
    parts, in_parts = run(changed(backbone="test_vit", epochs=1, grad_accum_steps=2), batches(3, 5), 3)
    assert torch.allclose(weights(whole.model), weights(parts.model), atol=1e-6)
    assert [e.loss for e in in_parts] == pytest.approx([e.loss for e in events], rel=1e-5)


def test_share_weighs_a_processes_loss() -> None:
    config = changed(backbone="test_vit", epochs=1)
    half = [Batch(b.images, b.targets, b.samples, 0.5) for b in batches(1)]
    _, whole = run(config, batches(1), 1)
    _, weighed = run(config, half, 1)
    assert weighed[0].loss == pytest.approx(whole[0].loss / 2)
    assert isinstance(weighed[0], Steps)
    assert isinstance(whole[0], Steps)
    assert weighed[0].grad_norm == pytest.approx(whole[0].grad_norm / 2, rel=1e-4)


@pytest.mark.parametrize(("backbone", "accum"), [("test_resnet", 1), ("test_resnet", 2), ("test_vit", 1)])
def test_recomputed_activations_train_the_same_network(backbone: str, accum: int) -> None:
    """Running statistics of BatchNorm too, though the forward pass runs twice."""
    config = changed(backbone=backbone, epochs=1, grad_accum_steps=accum, ema=True)
    usual, events = run(config, batches(3), 3)
    recomputed, others = run(
        changed(grad_checkpointing=True, backbone=backbone, epochs=1, grad_accum_steps=accum, ema=True), batches(3), 3
    )
    assert recomputed.model.backbone.timm_model.grad_checkpointing
    assert events == others
    for state, other in ((usual.model, recomputed.model), (usual.scored, recomputed.scored)):
        for (key, value), again in zip(state.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(value, again), key


def test_a_backbone_without_checkpointing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = setup.build_model(PLAIN, DATA, paper=False)

    def refuse(enable: bool) -> None:
        raise AssertionError("gradient checkpointing not supported")

    monkeypatch.setattr(model.backbone.timm_model, "set_grad_checkpointing", refuse)
    with pytest.raises(ModelError, match="timm does not support gradient checkpointing"):
        model.backbone.checkpoint_gradients()


def test_the_last_batch_is_not_compiled_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        compiled.append(len(inputs))
        return graph

    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: real(module, backend=count))
    config = changed(compile=True, epochs=2)
    given = [*batches(1), *batches(1, 3), *batches(1), *batches(1, 3)]
    _, events = run(config, given, 2)
    assert len(compiled) == 1, "compiled once for each size of a batch"
    _, expected = run(changed(epochs=2), given, 2)
    assert [e.loss for e in events] == pytest.approx([e.loss for e in expected], rel=1e-4)


def test_the_average_is_to_the_bit_the_one_of_timm() -> None:
    """With tensors replaced in between too, as scoring may do."""
    from timm.utils.model_ema import ModelEmaV3

    config = changed(ema=True, ema_decay=0.9, epochs=2)
    state, network = made(config)
    expected = ModelEmaV3(state.model, decay=0.9, use_warmup=True)
    for event in fit(state, network, iter(batches(6)), mean_loss, config, steps_per_epoch=3):
        if isinstance(event, Steps):
            expected.update(state.model, step=event.step)
        else:
            state.scored.to(memory_format=torch.channels_last)
            expected.module.to(memory_format=torch.channels_last)
            setup.lay_out(state.scored, config)
            for module in state.model.modules():
                for name, buffer in list(module.named_buffers(recurse=False)):
                    setattr(module, name, buffer.clone())
    for (key, value), own in zip(expected.module.state_dict().items(), state.scored.state_dict().values(), strict=True):
        assert torch.equal(value, own), key


def test_clipping_bounds_the_step_and_tells_the_norm_before() -> None:
    config = changed(epochs=1, clip_grad=0.01, momentum=0.0, weight_decay=0.0, head_lr_mult=1.0)
    before = weights(setup.build_model(config, DATA, paper=False))
    state, events = run(config, batches(1), 1)
    assert isinstance(events[0], Steps)
    assert events[0].grad_norm > 0.01
    assert (weights(state.model) - before).norm().item() == pytest.approx(0.01 * 0.1, rel=1e-3)


def test_the_average_of_the_weights_is_timms_and_is_what_is_scored() -> None:
    config = changed(ema=True, ema_decay=0.9, epochs=1)
    state, network = made(config)
    expected = {k: v.clone() for k, v in state.model.state_dict().items()}
    for step, _ in enumerate(
        e for e in fit(state, network, iter(batches(3)), mean_loss, config, steps_per_epoch=3) if isinstance(e, Steps)
    ):
        decay = 0.0 if step == 0 else min(0.9, 1 - (1 + step) ** (-2 / 3))
        for key, value in state.model.state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * value if value.is_floating_point() else value
    scored = state.scored.state_dict()
    assert state.scored is not state.model
    assert all(torch.allclose(scored[key].double(), expected[key].double(), atol=1e-5) for key in scored)


def test_swa_is_the_mean_over_the_steps_of_the_final_epochs() -> None:
    config = changed(ema=True, ema_decay=0.9, swa_epochs=2, epochs=3)
    state, network = made(config)
    seen = []
    for event in fit(state, network, iter(batches(9)), mean_loss, config, steps_per_epoch=3):
        if isinstance(event, Steps) and event.step > 3:
            seen.append({key: value.double().clone() for key, value in state.model.state_dict().items()})
    assert len(seen) == 6
    for key, value in state.scored.state_dict().items():
        if value.is_floating_point():
            expected = torch.stack([weights[key] for weights in seen]).mean(0)
            torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("broken", [1, 4])
def test_a_loss_that_is_no_number_stops_with_step_lr_norm_and_what_is_safe(broken: int) -> None:
    state, network = made(PLAIN)
    state.saved = 1

    def loss(logits: Tensor, targets: Tensor, epoch: int = 0) -> Tensor:
        return mean_loss(logits, targets) * (float("nan") if state.step == broken else 1.0)

    names = ["a.jpg", "b\n.jpg", "c.jpg", "d.jpg"]
    with pytest.raises(RunError) as caught:
        list(fit(state, network, iter(batches(6)), loss, PLAIN, steps_per_epoch=3, sample_ids=names))
    text = str(caught.value)
    assert f"loss is nan at step {broken + 1} (lr 0.{'1' if broken < 3 else '01'}, grad norm nan; samples " in text
    assert "samples a.jpg, b\\n.jpg, c.jpg and 1 more)" in text
    assert "last good checkpoint: step 1" in text


def test_a_learning_rate_beyond_reason_stops_at_once() -> None:
    with pytest.raises(RunError, match=r"at step [123] "):
        run(changed(lr=1e30), batches(6), 3)


def test_every_event_leaves_a_state_from_which_the_rest_is_the_same() -> None:
    config = changed(head_dropout=0.5)
    whole, _ = run(config, batches(6), 3)
    for stop in range(1, 8):
        state, network = made(config)
        events = fit(state, network, iter(batches(6)), mean_loss, config, steps_per_epoch=3)
        for _ in range(stop):
            next(events)
        content = state.content()
        other, again = made(config)
        other.restore(content)
        done = 3 * other.epoch + other.batch
        list(fit(other, again, iter(batches(6)[done:]), mean_loss, config, steps_per_epoch=3))
        assert torch.equal(weights(other.model), weights(whole.model)), stop


def test_dropouts_masks_follow_seed_epoch_and_step_alone() -> None:
    seeds = {step_seed(seed, epoch, step) for seed in range(3) for epoch in range(3) for step in range(3)}
    assert len(seeds) == 27
    assert step_seed(1, 2, 3) == step_seed(1, 2, 3)


def test_a_frozen_backbone_does_not_move_and_keeps_its_statistics() -> None:
    config = changed(freeze_backbone=True, epochs=1)
    state, network = made(config)
    before = {k: v.clone() for k, v in state.model.backbone.state_dict().items()}
    features = [Batch(torch.rand(4, state.model.backbone.num_features, 2, 2), b.targets, b.samples) for b in batches(3)]
    state.model.eval()
    events = list(fit(state, network, iter(features), mean_loss, config, steps_per_epoch=3))
    assert events[0].loss != events[2].loss
    assert not state.model.backbone.training
    after = state.model.backbone.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_half_precision_on_the_processor_trains_too() -> None:
    config = changed(epochs=1)
    model = setup.build_model(config, DATA, paper=False)
    state = setup.make_state(model, config, CPU, "bf16")
    network = setup.make_network(state, config, CPU, "bf16")
    stream: Iterator[Batch] = iter(batches(3))
    losses = [e.loss for e in fit(state, network, stream, mean_loss, config, steps_per_epoch=3)]
    _, exact = run(config, batches(3), 3)
    assert losses == pytest.approx([e.loss for e in exact], rel=0.05)
    assert all(p.dtype == torch.float32 for p in state.model.parameters())


def test_where_looking_costs_time_several_steps_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    _, single = run(PLAIN, batches(10), 5)
    monkeypatch.setattr(loop, "_sync_is_due", lambda state, *_: state.step % 3 == 0 or state.batch == 5)
    state, together = run(PLAIN, batches(10), 5)
    steps = [e for e in together if isinstance(e, Steps)]
    assert [(e.step, e.steps, e.samples) for e in steps] == [(3, 3, 12), (5, 2, 8), (6, 1, 4), (9, 3, 12), (10, 1, 4)]
    losses = [e.loss for e in single if isinstance(e, Steps)]
    assert [e.loss for e in steps] == pytest.approx(
        [sum(losses[a:b]) / (b - a) for a, b in ((0, 3), (3, 5), (5, 6), (6, 9), (9, 10))]
    )
    assert [e.loss for e in together if isinstance(e, Epoch)] == [e.loss for e in single if isinstance(e, Epoch)]
    assert state.step == 10


def test_a_broken_step_is_named_even_when_it_is_looked_at_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_sync_is_due", lambda state, *_: state.batch == 5)
    state, network = made(PLAIN)

    def loss(logits: Tensor, targets: Tensor, epoch: int = 0) -> Tensor:
        return mean_loss(logits, targets) * (float("inf") if state.step == 2 else 1.0)

    with pytest.raises(RunError, match="loss is inf at step 3 "):
        list(fit(state, network, iter(batches(5)), loss, PLAIN, steps_per_epoch=5))


def test_steps_that_an_fp16_scaler_leaves_out_are_borne_up_to_fifty_in_a_row() -> None:
    state, _ = made(PLAIN)

    def look(norm: float) -> None:
        state.step += 1
        window = loop._Window([torch.tensor(0.5)], [torch.tensor(norm)], [0.1], [torch.arange(4)])
        loop.sync_metrics(state, window, "fp16")

    for _ in range(50):
        look(math.inf)
    look(1.0)
    for _ in range(50):
        look(math.nan)
    with pytest.raises(RunError, match="at step 102 "):
        look(math.inf)


def test_the_scale_of_fp16_is_resumed() -> None:
    """Skipped steps halve it and good steps double it; a resumed run must be at the same scale, after as many steps.

    The scaler is a real one, and autocast computes in fp16. The first scales are too large for it.
    """
    config = changed(lr_schedule="constant", epochs=1, lr=0.01)

    def start() -> tuple[State, Network]:
        state, network = made(config)
        state.scaler = GradScaler("cpu", init_scale=2.0**30, growth_interval=3)
        return state, replace(network, precision="fp16")

    def rest(state: State, network: Network) -> Iterator[Event]:
        return fit(state, network, iter(batches(10)[state.batch :]), mean_loss, config, steps_per_epoch=10)

    whole, network = start()
    scales = [whole.scaler.get_scale() for _ in rest(whole, network)]
    assert len(set(scales)) > 3, scales
    for stop in (1, 4, 8):
        state, network = start()
        events = rest(state, network)
        for _ in range(stop):
            next(events)
        content = copy.deepcopy(state.content())
        other, again = start()
        other.restore(content)
        assert other.scaler.state_dict() == content["scaler"]
        list(rest(other, again))
        assert torch.equal(weights(other.model), weights(whole.model)), stop
        assert other.scaler.state_dict() == whole.scaler.state_dict()
