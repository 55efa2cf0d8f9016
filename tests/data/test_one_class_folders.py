import numpy as np
import pytest
from PIL import Image

from robustcls import InputError, load
from robustcls.data.one_class.masks import read_masks


def fill(folder, count, size=(8, 6)):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0]), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


def mask(path, box, value=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((6, 8), np.uint8)
    pixels[box] = value
    Image.fromarray(pixels).save(path)


LEFT = np.s_[:, :4]


@pytest.fixture(params=["mvtec", "loco", "ad2", "visa"])
def parts(request, tmp_path):
    """A set of defects in the layout of each: the left half of image 1 of each kind is one."""
    root = tmp_path / "parts"
    if request.param == "visa":
        fill(root / "Data" / "Images" / "Normal", 10)
        fill(root / "Data" / "Images" / "Anomaly", 3)
        mask(root / "Data" / "Masks" / "Anomaly" / "001.png", LEFT, 1)
        return root, ("normal", "anomaly"), {"train": 7, "validation": 1, "test": [2, 3]}
    fill(root / "train" / "good", 10)
    kinds = {"mvtec": ["crack", "hole"], "loco": ["structural_anomalies"], "ad2": ["bad"]}
    kinds = kinds[request.param]
    test = root / ("test_public" if request.param == "ad2" else "test")
    fill(test / "good", 4)
    for kind in kinds:
        fill(test / kind, 3)
        beside = test if request.param == "ad2" else root
        name = {"mvtec": "001_mask.png", "loco": "001/000.png", "ad2": "001_mask.png"}
        value = 3 if request.param == "loco" else 255
        mask(beside / "ground_truth" / kind / name[request.param], LEFT, value)
    counts = {"train": 9, "validation": 1, "test": [4] + [3] * len(kinds)}
    if request.param != "mvtec":
        fill(root / "validation" / "good", 2)
        counts |= {"train": 10, "validation": 2}
    return root, ("good", *kinds), counts


def test_layouts_of_sets_of_defects(parts):
    root, names, counts = parts
    splits = load(root, one_class=True, validation_fraction=0.1)
    assert splits.class_names == names
    for part in ("train", "validation"):
        labels = getattr(splits, part).labels
        assert labels.tolist() == [0] * counts[part]
    assert np.bincount(splits.test.labels).tolist() == counts["test"]
    masks, known = read_masks(root, splits.test.ids, (6, 8))
    marked = [name for name, there in zip(splits.test.ids, known, strict=True) if there]
    assert len(marked) == len(names) - 1
    assert all(name.endswith("/001.png") for name in marked)
    assert masks[known][:, :, :4].all()
    assert not masks[known][:, :, 4:].any()
    assert not masks[~known].any()


def test_masks_are_resized(parts):
    root, _, _ = parts
    splits = load(root, one_class=True, image_size=(12, 24))
    masks, known = read_masks(root, splits.test.ids, (12, 24))
    assert masks.shape == (len(splits.test), 12, 24)
    np.testing.assert_array_equal(masks[known].sum((1, 2)), 12 * 12)


def test_normal_images_alone(tmp_path):
    fill(tmp_path, 20)
    splits = load(tmp_path, one_class=True)
    assert splits.class_names == ("normal",)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [14, 2, 4]


def test_normal_images_in_a_folder_of_their_own(tmp_path):
    fill(tmp_path / "ok parts", 10)
    splits = load(tmp_path, one_class=True)
    assert splits.class_names == ("ok parts",)
    assert len(splits.train) == 7


def test_names_in_any_case_and_images_right_in_train(tmp_path):
    """An image of "Good" is as normal as those of "good"; else half of the labels were wrong."""
    fill(tmp_path / "a" / "Train" / "good", 10)
    fill(tmp_path / "b" / "train", 10)
    for part in ("a/Test", "b/test"):
        fill(tmp_path / part / "Good", 3)
        fill(tmp_path / part / "Crack", 2)
    for name in "ab":
        splits = load(tmp_path / name, one_class=True)
        assert splits.class_names == ("good", "Crack")
        assert sorted(splits.test.labels) == [0, 0, 0, 1, 1]
        assert set(splits.train.labels) == {0}


def test_folders_that_do_not_say_what_is_normal(tmp_path):
    """Defects, masks or whole sets would be learnt as normal."""
    fill(tmp_path / "mixed", 10)
    fill(tmp_path / "mixed" / "defects", 3)
    fill(tmp_path / "untold" / "train" / "good", 10)
    fill(tmp_path / "untold" / "test", 3)
    for name in ("bottle", "cable"):
        for part in ("train/good", "test/good", "test/hole", "ground_truth/hole"):
            fill(tmp_path / "sets" / name / part, 3)
    fill(tmp_path / "deep" / "parts" / "a", 3)
    for name, words in (
        ("mixed", "the folder defects and 10 images beside it"),
        ("deep", "the folder parts and folders in it"),
        ("untold", r"a folder for each kind of image in .*test, good for the normal"),
        ("sets", r"one set; .* holds several\. Did you mean .*bottle\?"),
    ):
        with pytest.raises(InputError, match=words):
            load(tmp_path / name, one_class=True)


def test_a_classifiers_folder_is_read_as_ever(tmp_path):
    for name in ("cat", "train"):
        fill(tmp_path / name, 10)
    plain, other = load(tmp_path), load(tmp_path, one_class=True)
    assert plain.class_names == other.class_names == ("cat", "train")
    assert plain.fingerprint == other.fingerprint


def test_a_classifier_is_told_what_one_class_is_for(tmp_path):
    fill(tmp_path / "train" / "good", 5)
    with pytest.raises(InputError, match=r"holds 1 folder\. Images of one kind alone are for"):
        load(tmp_path)


def test_no_normal_image(tmp_path):
    (tmp_path / "train" / "good").mkdir(parents=True)
    with pytest.raises(InputError, match=r"data must hold normal images; .* has none"):
        load(tmp_path, one_class=True)


def frames(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.tif")


@pytest.fixture
def ucsd(tmp_path):
    """Three films to learn from, two to test on; the first with masks, as Ped2 has them."""
    root = tmp_path / "UCSDped2"
    for film in (1, 2, 3):
        frames(root / "Train" / f"Train{film:03}", 5)
    for film in (1, 2):
        frames(root / "Test" / f"Test{film:03}", 4)
    (root / "Train" / "Train001" / "._001.tif").write_bytes(b"of a Mac")
    (root / "Train" / ".DS_Store").write_bytes(b"of a Mac")
    for number in range(1, 5):
        mask(root / "Test" / "Test001_gt" / f"{number:03}.bmp", LEFT, 255 * (number > 2))
    return root


def listing(root, *films):
    lines = [f"TestVideoFile{{end+1}}.gt_frame = [{frames}];" for frames in films]
    (root / "Test" / "UCSDped2.m").write_text("TestVideoFile = {};\n" + "\n".join(lines))


def test_frames_of_ucsd(ucsd):
    listing(ucsd, "1:4", "2:3, 4")
    splits = load(ucsd, one_class=True)
    assert splits.class_names == ("normal", "anomaly")
    assert len(splits.train) == 10
    # A whole film is kept from training.
    assert {name.split("/")[1] for name in splits.validation.ids} == {"Train003"}
    assert splits.test.ids[0] == "Test/Test001/001.tif"
    # Masks count for more than the list.
    assert splits.test.labels.tolist() == [0, 0, 1, 1, 0, 1, 1, 1]
    masks, known = read_masks(ucsd, splits.test.ids, (6, 8))
    assert known.tolist() == [True] * 4 + [False] * 4
    assert masks[2][LEFT].all()
    assert masks.sum() == 2 * 24


def test_ucsd_without_labels_or_with_half_of_them(ucsd):
    with pytest.raises(InputError, match="Test002 has neither masks"):
        load(ucsd, one_class=True)
    listing(ucsd, "1:4")
    with pytest.raises(InputError, match=r"must list 2 films.*lists 1"):
        load(ucsd, one_class=True)
    listing(ucsd, "1:4", "2:3")
    (ucsd / "Test" / "Test001_gt" / "002.bmp").unlink()
    with pytest.raises(InputError, match=r"a mask for each frame.*Test001/002\.tif has none"):
        load(ucsd, one_class=True)


def test_a_set_by_its_name(ucsd):
    listing(ucsd, "1:4", "2:3, 4")
    splits = load(f"ucsd:{ucsd}", one_class=True)
    assert splits.fingerprint == load(ucsd, one_class=True).fingerprint
    with pytest.raises(InputError, match="one normal class, which is for `anomaly train`"):
        load(f"ucsd:{ucsd}")
    with pytest.raises(InputError, match="a folder of mvtec with train"):
        load(f"mvtec:{ucsd}", one_class=True)
