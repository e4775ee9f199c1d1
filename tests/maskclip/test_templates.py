"""Sentences for names."""

import open_clip
import pytest

from maskclip.templates import check_templates, fill, known_templates, load_templates


@pytest.mark.parametrize(("spec", "count"), [("single", 1), ("vild", 14), ("imagenet80", 80)])
def test_packaged_sets(spec, count):
    assert spec in known_templates()
    assert len(load_templates(spec)) == len(set(load_templates(spec))) == count


def test_vilds_sizes_are_written_out():
    templates = load_templates("vild")
    assert templates[:2] == ("a photo of a {}.", "This is a photo of a {}")
    assert templates[-1] == "There is a large {} in the scene."


def test_imagenets_equal_open_clips():
    filled = [fill(template, "cat") for template in load_templates("imagenet80")]
    assert filled == [template("cat") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]


def test_a_users_file(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a satellite picture of {}\n\n{} from above\n", encoding="utf-8")
    assert load_templates(str(path)) == ("a satellite picture of {}", "{} from above")


def test_a_template_written_out():
    assert load_templates("an x-ray of a {}.") == ("an x-ray of a {}.",)


@pytest.mark.parametrize("content", ["", "no slot", "{} and {}"])
def test_refused_files_are_named(tmp_path, content):
    path = tmp_path / "mine.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.txt"):
        load_templates(str(path))


def test_an_unknown_set_lists_the_known():
    with pytest.raises(FileNotFoundError, match="imagenet80, single, vild"):
        load_templates("vidl")


def test_no_templates_are_refused():
    with pytest.raises(ValueError, match="no templates"):
        check_templates([], "the list")


def test_braces_in_a_name_mean_nothing():
    assert fill("a {}.", "{0} {x}") == "a {0} {x}."
