"""Detect objects with an exported detector: numpy, Pillow and onnxruntime are enough."""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


def resize(image: np.ndarray, rule: dict) -> np.ndarray:
    """Return an image (H, W, 3) resized as in training: bilinearly, with OpenCV's integers."""
    sides, size = np.array(image.shape[:2]), np.array([rule["height"], rule["width"]])
    if rule["keep_ratio"]:
        scale = min(size.max() / sides.max(), size.min() / sides.min())
        size = (sides * scale + 0.5).astype(int)
    pixels = image.astype(int)
    for axis, shape in ((1, (1, -1, 1)), (0, (-1, 1, 1))):
        at = (np.arange(size[axis]) + 0.5) * sides[axis] / size[axis] - 0.5
        at = np.clip(at, 0, sides[axis] - 1)
        low, share = at.astype(int), np.rint(at % 1 * 2048).astype(int).reshape(shape)
        after = pixels.take(np.minimum(low + 1, sides[axis] - 1), axis)
        before, rest = pixels.take(low, axis), 2048 - share
        if axis == 1:
            pixels = before * rest + after * share
        else:
            pixels = ((rest * (before >> 4) >> 16) + (share * (after >> 4) >> 16) + 2) >> 2
    return pixels.astype(np.float32)


def main() -> None:
    """Print the detections in images, and draw them with --draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="detector.onnx")
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--score", type=float, default=0.3, help="lowest score (default: 0.3)")
    parser.add_argument("--draw", type=Path, help="folder for pictures")
    options = parser.parse_args()
    session = onnxruntime.InferenceSession(options.model)
    facts = session.get_modelmeta().custom_metadata_map
    classes, rule = json.loads(facts["classes"]), json.loads(facts["resize"])
    for path in options.images:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        pixels, draw = resize(np.asarray(image), rule), ImageDraw.Draw(image)
        outputs = session.run(None, {"images": pixels.transpose(2, 0, 1)[None]})
        scale = np.tile(np.array(image.size) / pixels.shape[1::-1], 2)
        for box, score, label in zip(*(output[0] for output in outputs), strict=True):
            if score >= options.score:
                print(path, classes[label], f"{score:.2f}", *(box * scale).round(1))
                draw.rectangle((box * scale).tolist(), outline="red")
                draw.text((box * scale)[:2].tolist(), f"{classes[label]} {score:.2f}", fill="red")
        if options.draw:
            options.draw.mkdir(parents=True, exist_ok=True)
            image.save(options.draw / f"{path.stem}.png")


if __name__ == "__main__":
    main()
