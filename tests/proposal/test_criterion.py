import math

import pytest
import torch

from proposal.criterion import (
    Counts,
    Criterion,
    CriterionConfig,
    dice_losses,
    focal_losses,
    resize_masks,
)
from proposal.maskformer import MaskFormerOutput
from proposal.matcher import UNNAMED, Target


def target(masks: torch.Tensor) -> Target:
    return Target(masks, torch.zeros(len(masks), dtype=torch.int64))


def answer(images: int = 1, queries: int = 3, size: int = 4, **more) -> MaskFormerOutput:
    torch.manual_seed(0)
    return MaskFormerOutput(
        torch.randn(images, queries, size, size, requires_grad=True),
        object_logits=torch.randn(images, queries, 2, requires_grad=True),
        **more,
    )


def test_losses_worked_by_hand():
    logits, targets = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    assert focal_losses(logits, targets).item() == pytest.approx(0.125 * math.log(2))
    assert dice_losses(logits, targets).item() == pytest.approx(1 / 3)


def test_terms_worked_by_hand():
    # Two queries of logit 0 on a 1 x 2 grid, one target; object and no object equally likely.
    output = MaskFormerOutput(torch.zeros(1, 2, 1, 2), object_logits=torch.zeros(1, 2, 2))
    config = CriterionConfig(mask_loss_stride=4)
    masks = torch.zeros(1, 4, 8)
    masks[..., :4] = 1
    losses = Criterion(config)(output, [target(masks.bool())])
    assert losses["loss_focal"].item() == pytest.approx(20 * 0.125 * math.log(2))
    assert losses["loss_dice"].item() == pytest.approx(1 / 3)
    assert losses["loss_class"].item() == pytest.approx(math.log(2))  # a weighted mean: 1 and 0.1


def test_queries_without_a_target_count_a_tenth():
    output = MaskFormerOutput(
        torch.tensor([[[[9.0]], [[-9.0]]]]), object_logits=torch.tensor([[[0.0, 0.0], [3.0, 0.0]]])
    )
    losses = Criterion(CriterionConfig(mask_loss_stride=4))(output, [target(torch.ones(1, 4, 4))])
    wrong = math.log(1 + math.exp(3))
    expected = (math.log(2) + 0.1 * wrong) / 1.1
    assert losses["loss_class"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("counts", [(0,), (1,), (5,), (0, 0), (0, 1, 7)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_any_number_of_masks_gives_finite_losses_and_gradients(counts, stride):
    output = answer(len(counts))
    targets = [target(torch.rand(count, 16, 16) > 0.5) for count in counts]
    losses = Criterion(CriterionConfig(mask_loss_stride=stride))(output, targets)
    sum(losses.values()).backward()
    assert set(losses) == {"loss_class", "loss_focal", "loss_dice"}
    assert all(math.isfinite(loss.item()) for loss in losses.values())
    assert output.object_logits.grad.abs().sum() > 0
    if not sum(counts):
        assert losses["loss_focal"].item() == losses["loss_dice"].item() == 0


def test_every_auxiliary_layer_is_matched_and_counted_anew():
    right = MaskFormerOutput(
        torch.tensor([[[[9.0, -9]], [[-9, 9.0]]]]), object_logits=torch.zeros(1, 2, 2)
    )
    swapped = MaskFormerOutput(right.mask_logits.flip(1), object_logits=torch.zeros(1, 2, 2))
    output = MaskFormerOutput(right.mask_logits, right.object_logits, auxiliary=(swapped,))
    masks = torch.zeros(2, 4, 8)
    masks[0, :, :4] = masks[1, :, 4:] = 1
    losses = Criterion(CriterionConfig(mask_loss_stride=4))(output, [target(masks)])
    for name in ("loss_class", "loss_focal", "loss_dice"):
        assert losses[f"{name}_0"].item() == pytest.approx(losses[name].item(), abs=1e-6)
    assert losses["loss_dice"].item() < 1e-3


def test_only_matched_masks_get_a_gradient():
    output = answer(queries=5)
    losses = Criterion(CriterionConfig())(output, [target(torch.rand(2, 16, 16) > 0.5)])
    (losses["loss_focal"] + losses["loss_dice"]).backward()
    assert (output.mask_logits.grad[0].flatten(1).abs().sum(1) > 0).sum() == 2


def test_texts_decide_the_class_term_and_teach_the_no_object_vector():
    no_object = torch.tensor([0.0, 1.0], requires_grad=True)
    embeddings = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    masks = torch.tensor([[[[9.0]], [[-9.0]]]])
    output = MaskFormerOutput(masks, class_embeddings=embeddings, no_object=no_object)
    criterion = Criterion(CriterionConfig(mask_loss_stride=4))
    losses = criterion(output, [target(torch.ones(1, 4, 4))], torch.tensor([[1.0, 0.0]]))
    assert losses["loss_class"].item() == pytest.approx(0, abs=1e-6)
    far = criterion(output, [target(torch.ones(1, 4, 4))], torch.tensor([[-1.0, 0.0]]))
    far["loss_class"].backward()
    assert far["loss_class"].item() > 10
    assert no_object.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="text_embeddings"):
        criterion(output, [target(torch.ones(1, 4, 4))])


def test_as_many_targets_as_images_are_needed():
    with pytest.raises(ValueError, match="2 images need as many targets, got 1"):
        Criterion(CriterionConfig())(answer(2), [target(torch.ones(1, 16, 16))])


def test_masks_are_resized_by_the_farest_pixel():
    masks = torch.arange(16).view(1, 4, 4)
    assert resize_masks(masks, (2, 2)).tolist() == [[[0, 2], [8, 10]]]
    assert resize_masks(torch.zeros(0, 4, 4), (2, 2)).shape == (0, 2, 2)


def test_ignored_pixels_cost_nothing():
    """Right where it counts, wrong where it does not: no mask loss, no gradient there."""
    logits = torch.tensor([[[[40.0, -40.0, 40.0, 40.0]]]], requires_grad=True)
    output = MaskFormerOutput(logits, object_logits=torch.zeros(1, 1, 2))
    masks = torch.tensor([[[True, False, False, False]]])
    ignored = torch.tensor([[False, False, True, True]])
    wanted = Target(masks, torch.zeros(1, dtype=torch.int64), ignored)
    losses = Criterion(CriterionConfig())(output, [wanted])
    assert losses["loss_focal"].item() == pytest.approx(0, abs=1e-6)
    assert losses["loss_dice"].item() == pytest.approx(0, abs=1e-6)
    half = Target(masks, wanted.labels, torch.tensor([[False, False, False, True]]))
    wrong = Criterion(CriterionConfig())(output, [half])
    assert wrong["loss_focal"].item() == pytest.approx(20 * 0.75 * 40 / 3)  # one of three pixels
    assert wrong["loss_dice"].item() == pytest.approx(1 - 3 / 4)
    wrong["loss_focal"].backward()
    assert logits.grad[0, 0, 0, 3] == 0 and logits.grad[0, 0, 0, 2] > 0


def test_batches_of_a_step_can_share_their_counts():
    """Two images together cost the mean of what they cost apart, divided by the shared counts."""
    torch.manual_seed(0)
    targets = [target(torch.rand(count, 16, 16) > 0.5) for count in (1, 3)]
    both, criterion = answer(2), Criterion(CriterionConfig())
    together = criterion(both, targets)
    counts = [criterion.count([each], 3) for each in targets]
    assert (counts[0].masks, counts[0].class_weight) == (1, pytest.approx(1.2))
    shared = Counts(2, (counts[0].class_weight + counts[1].class_weight) / 2, 2)
    apart = [
        criterion(
            MaskFormerOutput(both.mask_logits[i, None], both.object_logits[i, None]),
            [targets[i]],
            counts=shared,
        )
        for i in range(2)
    ]
    for name, loss in together.items():
        mean = (apart[0][name] + apart[1][name]) / 2
        assert loss.item() == pytest.approx(mean.item(), rel=1e-5), name


@pytest.mark.parametrize("counts", [(0,), (2,), (0, 5)])
@pytest.mark.parametrize("crowded", [False, True])
def test_points_work_for_any_number_of_masks(counts, crowded):
    torch.manual_seed(1)
    output = answer(len(counts), queries=6)
    ignored = (torch.arange(256).view(16, 16) % 16 > 11) if crowded else None
    targets = []
    for count in counts:
        masks = torch.rand(count, 4, 4) > 0.5
        masks = masks.repeat_interleave(4, 1).repeat_interleave(4, 2)
        if crowded:
            masks &= ~ignored
        targets.append(Target(masks, torch.zeros(count, dtype=torch.int64), ignored))
    losses = Criterion(CriterionConfig(points=60))(output, targets)
    sum(losses.values()).backward()
    assert all(math.isfinite(loss.item()) for loss in losses.values())
    if sum(counts):
        assert output.mask_logits.grad.abs().sum() > 0
    else:
        assert losses["loss_focal"].item() == 0


def test_points_cost_what_pixels_cost_where_all_are_alike():
    output = MaskFormerOutput(torch.full((1, 2, 4, 4), 2.0), object_logits=torch.zeros(1, 2, 2))
    wanted = [target(torch.ones(1, 16, 16, dtype=torch.bool))]
    exact = Criterion(CriterionConfig())(output, wanted)
    drawn = Criterion(CriterionConfig(points=50))(output, wanted)
    assert drawn["loss_focal"].item() == pytest.approx(exact["loss_focal"].item(), rel=1e-5)
    assert drawn["loss_dice"].item() == pytest.approx(exact["loss_dice"].item(), abs=1e-2)


def named_output(**more) -> MaskFormerOutput:
    """Two queries, of which the first takes the left half, the second the right."""
    masks = torch.tensor([[[[9.0, -9]], [[-9, 9.0]]]])
    embeddings = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]], requires_grad=True)
    more = {"object_logits": torch.zeros(1, 2, 2), "class_embeddings": embeddings, **more}
    return MaskFormerOutput(masks, **more)


def halves(*labels: int) -> Target:
    masks = torch.zeros(2, 4, 8)
    masks[0, :, :4] = masks[1, :, 4:] = 1
    return Target(masks[: len(labels)], torch.tensor(labels, dtype=torch.int64))


TEXTS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [((0, 1), 0), ((1, 1), 50), ((1, UNNAMED), 100), ((UNNAMED, 1), 0), ((1,), 100)],
)
def test_names_are_learned_where_there_are_any(labels, expected):
    """Cosines 1 and 0 times 100: the right name costs nothing, the other 100; the mean counts."""
    criterion = Criterion(CriterionConfig(mask_loss_stride=4))
    losses = criterion(named_output(), [halves(*labels)], TEXTS)
    assert losses["loss_name"].item() == pytest.approx(expected)
    plain = criterion(named_output(class_embeddings=None), [halves(*[0] * len(labels))])
    assert {name: loss.item() for name, loss in plain.items()} == {
        name: loss.item() for name, loss in losses.items() if name != "loss_name"
    }


@pytest.mark.parametrize("labels", [(), (UNNAMED,), (UNNAMED, UNNAMED)])
def test_masks_without_names_cost_nothing_but_can_be_gone_back_through(labels):
    output = named_output()
    loss = Criterion(CriterionConfig())(output, [halves(*labels)], TEXTS)["loss_name"]
    loss.backward()
    assert loss.item() == 0
    assert output.class_embeddings.grad.abs().sum() == 0


def test_every_layer_learns_names():
    output = named_output(auxiliary=(named_output(),))
    losses = Criterion(CriterionConfig())(output, [halves(1, 0)], TEXTS)
    assert losses["loss_name"].item() == losses["loss_name_0"].item() == pytest.approx(100)
    with pytest.raises(ValueError, match="text_embeddings"):
        Criterion(CriterionConfig())(output, [halves(1, 0)])


def test_names_are_counted_over_the_whole_step():
    criterion = Criterion(CriterionConfig())
    assert criterion.count([halves(1, UNNAMED), halves()], 5).names == 1
    assert criterion.count([halves(1, 0)], 1).names == 1  # one query for two masks
    shared = Counts(2, 2, 4)
    losses = criterion(named_output(), [halves(1, UNNAMED)], TEXTS, shared)
    assert losses["loss_name"].item() == pytest.approx(25)
