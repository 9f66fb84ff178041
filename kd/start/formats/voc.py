"""Reader of Pascal VOC labels: an XML file for each image, in VOC's folders or beside the images.

Boxes are those of the project's own reader of VOC (``kd.data.voc``). hotcoco's reader is not used:
it turns ``difficult`` into ``iscrowd``, reads no size from images, and knows no image sets.
"""

from pathlib import Path
from xml.etree import ElementTree

from kd.common.errors import UserError
from kd.data.entry import SplitName
from kd.data.voc import MalformedError, parse_annotation
from kd.start.folder import Folder
from kd.start.formats.yolo_entry import read_text
from kd.start.labels import SPLIT_WORDS, Faults, LabeledBox, LabeledImage, Labels, checked_classes


def root_tag(path: Path) -> str:
    """Return the name of the root element of an XML file; empty if it cannot be read."""
    try:
        with open(path, "rb") as stream:
            for _, element in ElementTree.iterparse(stream, ("start",)):
                return element.tag
    except (ElementTree.ParseError, OSError, ValueError, LookupError):
        pass
    return ""


def evidence(folder: Folder) -> Path | None:
    """Return a file by which VOC's format is recognized, or None."""
    paths = folder.of(".xml")
    broken = [path for path in paths if path.with_suffix("") in folder.images_by_stem]
    tagged = (path for path in paths if root_tag(path) == "annotation")
    return next(tagged, None) or next(
        (path for path in [*broken, *paths] if not root_tag(path)), None
    )


def read(folder: Folder) -> Labels:
    """Return the labels of a folder; UserError if they are malformed."""
    labels = Labels("Pascal VOC", [], [])
    faults, used = Faults(), set[Path]()
    split_of = _image_sets(folder)
    for path in folder.of(".xml"):
        if root_tag(path) not in ("annotation", ""):
            continue
        if split_of and path.with_suffix("").name not in split_of:
            labels.leave_out("annotation files that no image set lists", path)
            continue
        image = _image_of(folder, path)
        if image is None:
            labels.leave_out("annotation files without an image", path)
            continue
        if image in used:
            faults.add(path, f"another annotation file has the image {image}, too; delete one")
            continue
        used.add(image)
        split = split_of[path.stem] if split_of else folder.split_of(image)
        _read_file(path, LabeledImage(image, path, split=split), labels, faults)
    faults.refuse()
    if not labels.images:
        raise UserError(
            f"{folder.root}: no annotation file belongs to an image; put each beside its image, or "
            "in 'Annotations' beside 'JPEGImages', with the same name"
        )
    for image in folder.images:
        if image not in used and not (split_of and image.stem not in split_of):
            labels.leave_out("images without an annotation file", image)
    names = {box.name for image in labels.images for box in image.boxes}
    labels.classes = checked_classes(sorted(names), folder.root) if names else []
    return labels


def _read_file(path: Path, image: LabeledImage, labels: Labels, faults: Faults) -> None:
    """Read the boxes of an image, and add it to the labels."""
    try:
        width, height, objects = parse_annotation(path.read_bytes(), image.path)
    except MalformedError as error:
        faults.add(path, f"{error}; correct it, or label the image again")
        return
    except OSError as error:
        faults.add(path, f"cannot be read: {error.strerror}; change its permission")
        return
    image.size = (width, height)
    image.boxes = [
        LabeledBox(
            item.name.strip(),
            (item.box[0], item.box[1], item.box[2], item.box[3]),
            f"object {number}",
            ignored=bool(item.difficult),
        )
        for number, item in enumerate(objects, start=1)
    ]
    labels.images.append(image)


def _image_of(folder: Folder, path: Path) -> Path | None:
    """Return the image of an annotation file, or None."""
    parent = path.parent
    places = [path.with_suffix("")]
    if parent.name.lower() in ("annotations", "labels", "xmls"):
        for name in ("JPEGImages", "images", "Images", "imgs"):
            places.append(parent.parent / name / path.stem)
    for place in places:
        same = folder.images_by_stem.get(place, [])
        if len(same) == 1:
            return same[0]
        if same:
            first = next((image for image in same if image.suffix == ".jpg"), None)
            if first is None:
                raise UserError(
                    f"{path}: belongs to {same[0].name} and {same[1].name}; remove one of the two"
                )
            return first
    try:
        name = ElementTree.parse(path).findtext("filename") or path.stem
    except ElementTree.ParseError:
        return None
    image = folder.find_image(name.strip(), parent)
    if image is None:
        stems = [one for one in folder.images if one.stem == path.stem]
        image = stems[0] if len(stems) == 1 else None
    return image


def _image_sets(folder: Folder) -> dict[str, SplitName | None]:
    """Return the split of each image by name, as image sets list them; empty without any."""
    lists: dict[str, list[Path]] = {}
    for path in folder.of(".txt"):
        if path.parent.name == "Main" and path.stem.lower() in SPLIT_WORDS:
            lists.setdefault(path.stem.lower(), []).append(path)
    if "train" in lists:
        lists.pop("trainval", None)
    elif "val" in lists and "trainval" in lists:
        # The rest of trainval is train.
        lists = {name: lists[name] for name in sorted(lists, key=lambda name: name == "trainval")}
    split_of: dict[str, SplitName | None] = {}
    stems = {path.stem for path in folder.of(".xml")}
    for name, paths in lists.items():
        for path in paths:
            for number, line in enumerate(read_text(path).splitlines(), start=1):
                stem = line.strip()
                if not stem:
                    continue
                if stem not in stems:
                    raise UserError(
                        f"{path}: line {number}: no annotation file '{stem}.xml'; add it, or "
                        "remove the line"
                    )
                split = SPLIT_WORDS[name]
                if split_of.setdefault(stem, split) != split and name != "trainval":
                    raise UserError(
                        f"{path}: line {number}: '{stem}' is in split '{split_of[stem]}', too; "
                        "remove one of the lines"
                    )
    return split_of
