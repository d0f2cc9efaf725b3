"""Makes the images of this folder, and what torchvision makes of them: `python make.py`, with Pillow and torchvision.

Each NAME.jpg has beside it NAME.whole.png, its pixels as Pillow reads them; NAME.region.png, the crop of `region` resized
to 20 × 20 and mirrored; and NAME.center.png, Resize(28) and CenterCrop(20). Made with Pillow 13.0.0, torchvision 0.26.0.
"""

from pathlib import Path

import numpy as np
import torchvision.transforms.functional as functional
from PIL import Image

HERE = Path(__file__).parent

# Name: width, height, region (left, top, width, height), mode, options of saving.
IMAGES = {
    "color-420": (61, 47, (19, 5, 30, 35), "RGB", dict(quality=90, subsampling="4:2:0")),
    "color-444": (47, 61, (3, 11, 41, 22), "RGB", dict(quality=90, subsampling="4:4:4")),
    "progressive": (50, 40, (25, 13, 25, 27), "RGB", dict(quality=90, progressive=True)),
    "rotated-in-exif": (52, 40, (17, 0, 20, 40), "RGB", dict(quality=90)),
    "gray": (45, 33, (9, 2, 33, 30), "L", dict(quality=90)),
    "cmyk": (40, 44, (8, 8, 24, 24), "CMYK", dict(quality=90)),
    "tiny": (3, 2, (1, 0, 2, 2), "RGB", dict(quality=95)),
    "png-inside": (40, 30, (5, 5, 30, 20), "RGBA", dict(format="PNG")),
}


def content(width, height):
    """Waves, a hard edge, and grain."""
    y, x = np.mgrid[0:height, 0:width][..., None] / 10
    waves = 128 + 80 * np.sin(x * [1, 0.3, 2] + y * [0.5, 2, 1])
    waves[:, width // 2 :] *= [0.4, 1.3, 0.9]
    waves += np.random.default_rng(width).normal(0, 12, waves.shape)
    return Image.fromarray(waves.clip(0, 255).astype(np.uint8))


for name, (width, height, region, mode, options) in IMAGES.items():
    if name == "rotated-in-exif":
        options["exif"] = Image.Exif()
        options["exif"][0x112] = 6
    content(width, height).convert(mode).save(HERE / f"{name}.jpg", **options)
    image = Image.open(HERE / f"{name}.jpg").convert("RGB")
    left, top, width, height = region
    crop = functional.resized_crop(image, top, left, height, width, [20, 20])
    functional.hflip(crop).save(HERE / f"{name}.region.png")
    functional.center_crop(functional.resize(image, 28), 20).save(HERE / f"{name}.center.png")
    image.save(HERE / f"{name}.whole.png")
