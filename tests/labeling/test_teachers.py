import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from labeling.regions import RegionConfig
from labeling.teachers import TeacherDeepLab, teacher_words
from labeling.teaching import Teachers, region_map, region_pairs
from maskclip.annotations import Instance


@pytest.fixture(scope="module", params=["voc", "ade20k"])
def random_teacher(request):
    torch.manual_seed(0)
    decoder = request.param == "ade20k"
    return TeacherDeepLab(teacher_words(request.param), decoder=decoder)


@pytest.fixture(scope="module")
def teachers(shared):
    return Teachers.load(shared / "weights", RegionConfig())


def test_words_fit_the_vocabularies(shared):
    """Row by row the data sets' names, but in plain English and as COCO writes them."""
    folder = shared / "data" / "vocabularies"
    voc = (folder / "voc20.txt").read_text().split("\n")[:20]
    ade = [line.split(",")[0] for line in (folder / "ade150.txt").read_text().split("\n")[:31]]
    renamed = {
        "aeroplane": "airplane",
        "diningtable": "dining table",
        "motorbike": "motorcycle",
        "pottedplant": "potted plant",
        "sofa": "couch",
        "tvmonitor": "tv",
        "earth": "ground",
    }
    assert [renamed.get(name, name) for name in voc] == list(teacher_words("voc").names)
    assert [renamed.get(name, name) for name in ade] == list(teacher_words("ade20k").names)
    assert set(teacher_words("ade20k").stuff) < set(teacher_words("ade20k").names)
    with pytest.raises(ValueError, match="ade20k"):
        teacher_words("coco")


def test_logits_have_a_row_for_other_and_each_name(random_teacher):
    logits = random_teacher(torch.zeros(1, 3, 65, 97))
    grid = (17, 25) if random_teacher.decoder else (5, 7)
    assert logits.shape == (1, 1 + len(random_teacher.names), *grid)


def test_labels_have_the_photos_size(random_teacher, monkeypatch):
    monkeypatch.setattr("labeling.teachers.LONG_SIDE", 65)
    image = np.zeros((30, 50, 3), dtype=np.uint8)
    probs = random_teacher.probs(image)
    assert probs.shape == (1 + len(random_teacher.names), 30, 50)
    assert probs.sum(dim=0).sub(1).abs().max() < 1e-5
    labels, names = random_teacher.segment(image)
    assert labels.shape == (30, 50)
    assert labels.max() < len(names)
    with_background, _ = random_teacher.segment(image, background=True)
    other = probs.argmax(dim=0).numpy() == 0
    np.testing.assert_array_equal(with_background == 255, other)
    np.testing.assert_array_equal(with_background[~other], labels[~other])


def test_what_is_no_teacher_is_refused(tmp_path):
    path = tmp_path / "mobilenetv2_100_voc_deeplab.safetensors"
    with pytest.raises(FileNotFoundError, match="DeepLab teacher"):
        TeacherDeepLab.load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a readable safetensors"):
        TeacherDeepLab.load(path)
    save_file({"conv_stem.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="does not hold a DeepLab teacher"):
        TeacherDeepLab.load(path)


def test_the_voc_teacher_is_as_good_as_measured(shared, teachers):
    """.90 on COCO photos (shared/weights/README.md); these three VOC photos are easier."""
    folder = shared / "data" / "samples" / "voc20"
    right = counted = 0
    for path in sorted((folder / "images").iterdir()):
        image = np.array(Image.open(path).convert("RGB"))
        truth = np.array(Image.open(folder / "labels" / f"{path.stem}.png"))
        labels, _ = teachers.things.segment(image, background=True)
        said = np.where(labels == 255, 0, labels + 1)
        right += int(((said == truth) & (truth != 255)).sum())
        counted += int((truth != 255).sum())
    assert right / counted > 0.9  # measured: 0.924


def test_the_ade_teacher_is_as_good_as_measured(shared, teachers):
    folder = shared / "data" / "samples" / "ade150"
    right = counted = 0
    for path in sorted((folder / "images").iterdir())[:2]:
        image = np.array(Image.open(path).convert("RGB"))
        truth = np.array(Image.open(folder / "annotations" / f"{path.stem}.png"))
        labels, _ = teachers.stuff.segment(image)
        known = (truth > 0) & (truth <= 31)
        right += int(((labels + 1 == truth) & known).sum())
        counted += int(known.sum())
    assert right / counted > 0.75  # measured on all four: 0.822


def test_instances_keep_the_teachers_out(shared, teachers):
    path = shared / "data" / "samples" / "voc20" / "images" / "2011_000025.jpg"
    image = np.array(Image.open(path).convert("RGB"))
    free = teachers.label(image)
    assert {"bus", "road"} <= {region.name for region in free}
    left = np.zeros(image.shape[:2], dtype=bool)
    left[:, : image.shape[1] // 2] = True
    bound = teachers.label(image, (Instance(left, "bus", crowd=False),))
    assert bound
    assert {region.name for region in bound} <= set(teachers.stuff.stuff)
    assert not any((region.mask & left).any() for region in bound)
    pair = region_pairs(bound, "x/y.jpg")[0]
    assert pair.noun == bound[0].name
    assert pair.score == pair.probability == bound[0].confidence > 0.7


def test_maps_leave_crowds_unlabelled():
    def mask(*columns):
        found = np.zeros((2, 6), dtype=bool)
        found[:, list(columns)] = True
        return found

    crowd = Instance(mask(3, 4, 5), "person", crowd=True)
    one = Instance(mask(0, 1, 2, 3), "person", crowd=False)
    on_top = Instance(mask(1), "tie", crowd=False)
    painted = region_map([], (on_top, crowd, one), (2, 6))
    np.testing.assert_array_equal(painted[0], [1, 2, 1, 1, 0, 0])
