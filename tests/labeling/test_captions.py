import json

import pytest

from labeling.captions import Caption, CaptionedImage, read_captions


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def coco(**changes):
    content = {
        "images": [{"id": 9, "file_name": "b.jpg"}, {"id": 7, "file_name": "a.jpg"}],
        "annotations": [
            {"id": 20, "image_id": 9, "caption": "A dog. "},
            {"id": 3, "image_id": 9, "caption": "A cat."},
            {"id": 100, "image_id": 7, "caption": "A bus."},
        ],
    }
    return json.dumps(content | changes)


def test_coco_comes_sorted_each_photo_once(tmp_path):
    assert read_captions(write(tmp_path, "c.json", coco())) == [
        CaptionedImage("a.jpg", "7", (Caption("100", "A bus."),)),
        CaptionedImage("b.jpg", "9", (Caption("3", "A cat."), Caption("20", "A dog."))),
    ]


def test_photos_without_captions_are_left_out(tmp_path):
    assert read_captions(write(tmp_path, "c.json", coco(annotations=[]))) == []


@pytest.mark.parametrize("head", ["", "file\tcaption\n", "image\ttext\n", "\ufefffile\tcaption\n"])
def test_tsv_with_and_without_header(tmp_path, head):
    text = head + "z/b.jpg\tA dog .\r\n\na.jpg\tA cat\nz/b.jpg\tTwo dogs\n"
    assert read_captions(write(tmp_path, "c.tsv", text)) == [
        CaptionedImage("a.jpg", "a", (Caption("a#0", "A cat"),)),
        CaptionedImage(
            "z/b.jpg", "z/b", (Caption("z/b#0", "A dog ."), Caption("z/b#1", "Two dogs"))
        ),
    ]


def test_a_header_picks_columns(tmp_path):
    path = write(tmp_path, "c.tsv", "id\tcaption\tfilepath\n1\tA cat\ta.jpg\n")
    assert read_captions(path) == [CaptionedImage("a.jpg", "a", (Caption("a#0", "A cat"),))]


def test_flickr8k_numbers_its_captions(tmp_path):
    path = write(tmp_path, "Flickr8k.token.txt", "x_1.jpg#1\tA dog\nx_1.jpg#0\tA cat\n")
    (one,) = read_captions(path)
    assert [(c.id, c.text) for c in one.captions] == [("x_1#1", "A dog"), ("x_1#0", "A cat")]
    assert one.image == "x_1.jpg"


def test_a_hash_in_a_file_name_stays(tmp_path):
    (one,) = read_captions(write(tmp_path, "c.tsv", "x#y.jpg\tA dog\n"))
    assert one.image == "x#y.jpg"


def test_jsonl_takes_one_caption_or_several(tmp_path):
    lines = [
        {"file": "b.jpg", "captions": ["A cat", "A dog"]},
        {"image": "a.jpg", "caption": "A bus", "image_id": 5, "caption_id": 6},
        {"file": "b.jpg", "caption": "A cow"},
    ]
    path = write(tmp_path, "c.jsonl", "\n".join(map(json.dumps, lines)))
    first, second = read_captions(path)
    assert first == CaptionedImage("a.jpg", "5", (Caption("6", "A bus"),))
    assert [(c.id, c.text) for c in second.captions] == [
        ("b#0", "A cat"),
        ("b#1", "A dog"),
        ("b#2", "A cow"),
    ]


def test_photos_that_differ_in_their_suffix_have_ids_of_their_own(tmp_path):
    found = read_captions(write(tmp_path, "c.tsv", "a.jpg\tA cat\na.png\tA dog\n"))
    assert [one.image_id for one in found] == ["a.jpg", "a.png"]


def test_an_empty_file_and_an_empty_caption_are_no_faults(tmp_path):
    assert read_captions(write(tmp_path, "c.tsv", "")) == []
    (one,) = read_captions(write(tmp_path, "d.tsv", "a.jpg\t\n"))
    assert one.captions == (Caption("a#0", ""),)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("c.tsv", "a.jpg\tA cat\nb.jpg A dog\n", "line 2 .*got 1 cells"),
        ("c.tsv", "a.jpg\tA cat\tyes\n", "line 1 .*got 3 cells"),
        ("c.tsv", "file\tcaption\n\tA cat\n", "line 2 .*inside the images folder, got ''"),
        ("c.tsv", "/x/a.jpg\tA cat\n", "line 1 .*inside the images folder"),
        ("c.tsv", "../a.jpg\tA cat\n", "line 1 .*inside the images folder"),
        ("c.tsv", b"a.jpg\tA cat\nb.jpg\t\xff\n", "line 2 .*UTF-8"),
        ("c.jsonl", '{"file": "a.jpg", "caption": "A cat"}\n{"file": \n', "line 2 .*JSON"),
        ("c.jsonl", '{"file": "a.jpg"}\n', "line 1 .*object such as"),
        ("c.jsonl", '{"file": "a.jpg", "caption": 3}\n', "line 1 .*object such as"),
        ("c.jsonl", "[1]\n", "line 1 .*object such as"),
        ("c.json", '["A cat"]', "COCO captions JSON .*got list"),
        ("c.json", '{"images": []}', "got the keys .'images'"),
        ("c.json", '{"images":\n [}', "JSON, got an error at its line 2"),
        ("c.json", coco(images=[]), "belongs to image 9"),
        ("c.json", coco(annotations=[{"id": 1, "image_id": 7}]), r"annotations\[0\] .*caption"),
        ("c.json", coco(images=[{"id": 1}]), r"images\[0\] .*file_name"),
        ("c.csv", "a.jpg,A cat", "got .csv"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path, name, content, told):
    with pytest.raises(ValueError, match=told) as caught:
        read_captions(write(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no captions file"):
        read_captions(tmp_path / "c.json")


def test_the_projects_captions(shared):
    coco_images = read_captions(shared / "data" / "coco" / "captions.json")
    flickr = read_captions(shared / "data" / "flickr8k_1000" / "captions.tsv")
    assert (len(coco_images), sum(len(one.captions) for one in coco_images)) == (297, 1485)
    assert (len(flickr), sum(len(one.captions) for one in flickr)) == (1000, 5000)
