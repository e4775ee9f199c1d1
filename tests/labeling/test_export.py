import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO

from labeling.export import export_pairs
from labeling.export_coco import export_coco
from labeling.export_crops import export_crops, masked_crop
from labeling.pair_stream import stream_rows
from maskclip.pairs import PAIR_SCHEMA, write_pairs, write_run

FILL = [123, 117, 104]  # CLIP's mean colour


def test_pycocotools_loads_the_instances(pairs_folder):
    coco = COCO(export_pairs(pairs_folder, "coco"))
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "cat"}, {"id": 2, "name": "sofa"}]
    assert coco.loadImgs([7, 8]) == [
        {"id": 7, "file_name": "a.png", "height": 40, "width": 60},
        {"id": 8, "file_name": "b/c.png", "height": 40, "width": 60},
    ]
    cat, sofa, other = coco.loadAnns([1, 2, 3])
    assert (cat["image_id"], cat["category_id"], cat["iscrowd"]) == (7, 1, 0)
    assert (cat["bbox"], cat["area"], cat["score"]) == ([20, 10, 20, 10], 199, 0.5)
    assert (cat["caption"], cat["caption_id"]) == ("A <b>cat</b> & a sofa.", "11")
    assert (sofa["category_id"], other["image_id"], other["proposal"]) == (2, 8, 1)
    mask = coco.annToMask(cat)
    assert (mask.sum(), mask[10, 20], mask[10, 21]) == (199, 0, 1)
    assert coco.getImgIds(catIds=[2]) == [7]


def test_images_without_numbers_are_numbered(pairs_folder):
    rows = pq.read_table(pairs_folder / "pairs-00001.parquet").to_pylist()
    table = pq.read_table(pairs_folder / "pairs-00001.parquet")
    column = table.schema.get_field_index("image_id")
    ids = ["x" for _ in rows]
    pq.write_table(
        table.set_column(column, "image_id", [ids]), pairs_folder / "pairs-00001.parquet"
    )
    content = json.loads(export_coco(pairs_folder, pairs_folder / "x" / "i.json").read_text())
    assert [one["id"] for one in content["images"]] == [1, 2]
    assert [one["image_id"] for one in content["annotations"]] == [1, 1, 2]


def test_no_pairs_are_an_empty_file_of_the_same_form(tmp_path):
    write_pairs(tmp_path, 0, [])
    coco = COCO(export_coco(tmp_path, tmp_path / "instances.json"))
    assert (coco.getImgIds(), coco.getAnnIds(), coco.getCatIds()) == ([], [], [])


def test_crops_and_their_list(pairs_folder):
    path = export_pairs(pairs_folder, "crops")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["title"] for row in rows] == ["cat", "sofa", "cat"]
    crops = [np.array(Image.open(row["filepath"])) for row in rows]
    assert [crop.shape for crop in crops] == [(10, 20, 3), (40, 60, 3), (10, 20, 3)]
    assert not list(path.parent.rglob("*.tmp"))


def test_open_clips_own_data_set_reads_the_list(pairs_folder):
    data = pytest.importorskip("open_clip_train.data")
    path = export_crops(pairs_folder, pairs_folder / "crops")
    images = data.CsvDataset(
        str(path), lambda image: image.size, "filepath", "title", tokenizer=lambda texts: texts
    )
    assert len(images) == 3
    assert images[0] == ((20, 10), "cat")


def test_pandas_reads_the_list_as_open_clip_does(pairs_folder):
    pandas = pytest.importorskip("pandas")
    path = export_crops(pairs_folder, pairs_folder / "crops")
    frame = pandas.read_csv(path, sep="\t")
    assert list(frame.columns) == ["filepath", "title"]
    assert Image.open(str(frame["filepath"][1])).size == (60, 40)


def test_png_crops_are_exact(pairs_folder):
    path = export_crops(pairs_folder, pairs_folder / "crops", image_format="png")
    crop = np.array(Image.open(path.parent / "00000" / "00000000.png"))
    assert crop[0, 0].tolist() == FILL  # the one pixel outside the mask
    assert crop[0, 1].tolist() == [255, 0, 0]


def test_crops_that_are_there_are_kept(pairs_folder):
    path = export_crops(pairs_folder, pairs_folder / "crops")
    kept = path.parent / "00000" / "00000001.jpg"
    before = kept.stat().st_mtime_ns
    (path.parent / "00000" / "00000000.jpg").unlink()
    path.unlink()
    assert export_crops(pairs_folder, pairs_folder / "crops") == path
    assert (kept.stat().st_mtime_ns, len(path.read_text().splitlines())) == (before, 4)
    assert (path.parent / "00000" / "00000000.jpg").exists()


def test_crops_of_another_run_are_refused(pairs_folder, tmp_path):
    export_crops(pairs_folder, tmp_path / "crops")
    with pytest.raises(ValueError, match="holds crops of .* as jpg, which are others"):
        export_crops(pairs_folder, tmp_path / "crops", image_format="png")
    write_run(pairs_folder, tmp_path / "photos", {"top_k": 2})
    with pytest.raises(ValueError, match="which are others"):
        export_crops(pairs_folder, tmp_path / "crops")


def test_wrong_forms_and_missing_photos_are_told(pairs_folder, tmp_path):
    with pytest.raises(ValueError, match="coco or crops, got 'x'"):
        export_pairs(pairs_folder, "x")
    with pytest.raises(ValueError, match="jpg or png, got 'gif'"):
        export_crops(pairs_folder, tmp_path / "crops", image_format="gif")
    with pytest.raises(FileNotFoundError, match="pairs-00000.parquet"):
        export_coco(tmp_path, tmp_path / "x.json")
    (tmp_path / "photos" / "b" / "c.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no photo .*c\.png"):
        export_crops(pairs_folder, tmp_path / "crops")
    assert not (tmp_path / "crops" / "crops.tsv").exists()


def test_a_photo_that_changed_is_told(pairs_folder):
    row = next(stream_rows(pairs_folder, PAIR_SCHEMA.names))
    with pytest.raises(ValueError, match="must be 60 x 40 pixels as when it was labelled"):
        masked_crop(np.zeros((20, 30, 3), np.uint8), row)


# The Parquet files themselves


def test_pandas_reads_the_pairs(pairs_folder):
    pandas = pytest.importorskip("pandas")
    frame = pandas.concat(map(pandas.read_parquet, sorted(pairs_folder.glob("*.parquet"))))
    assert frame["noun"].tolist() == ["cat", "sofa", "cat"]
    assert frame["box_xyxy"].iloc[0].tolist() == [20, 10, 40, 20]


def test_duckdb_reads_the_pairs(pairs_folder):
    duckdb = pytest.importorskip("duckdb")
    query = (
        f"select noun, count(*), max(score) from '{pairs_folder}/*.parquet' group by 1 order by 1"
    )
    assert duckdb.sql(query).fetchall() == [("cat", 2, 0.5), ("sofa", 1, 0.25)]


def test_hugging_face_datasets_reads_the_pairs(pairs_folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    files = sorted(map(str, pairs_folder.glob("*.parquet")))
    rows = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows["noun"][:] == ["cat", "sofa", "cat"]
    assert rows[0]["box_xyxy"] == [20, 10, 40, 20]
    assert isinstance(rows[0]["mask"], bytes)
