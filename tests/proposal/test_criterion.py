import math

import pytest
import torch

from proposal.criterion import Criterion, CriterionConfig, dice_losses, focal_losses, resize_masks
from proposal.maskformer import MaskFormerOutput
from proposal.matcher import Target


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
