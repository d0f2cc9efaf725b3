"""Images per second of FFCV 1.0.2, from a file that it writes itself.

    python loading_ffcv.py FOLDER FILE IMAGES WORKERS LARGEST

FILE is written if it is not there: JPEGs whose longer side is at most LARGEST pixels. Prints one number. One pass comes
before the timed one, in which numba compiles.
"""

import os
import sys
import time

from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import RandomHorizontalFlip, Squeeze, ToTensor
from ffcv.writer import DatasetWriter
from torch.utils.data import ConcatDataset
from torchvision.datasets import ImageFolder

folder, file, images, workers, largest = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
if not os.path.exists(file):
    dataset = ImageFolder(folder)
    dataset = ConcatDataset([dataset] * -(-images // len(dataset)))
    image = RGBImageField(write_mode="jpg", max_resolution=largest, jpeg_quality=90)
    DatasetWriter(file, {"image": image, "label": IntField()}, num_workers=workers).from_indexed_dataset(dataset)
image = [RandomResizedCropRGBImageDecoder((224, 224)), RandomHorizontalFlip(), ToTensor()]
loader = Loader(
    file,
    batch_size=256,
    num_workers=workers,
    order=OrderOption.RANDOM,
    os_cache=True,
    drop_last=False,
    pipelines={"image": image, "label": [IntDecoder(), ToTensor(), Squeeze()]},
)
for timed in (False, True):
    start, seen = time.perf_counter(), 0
    for pixels, _ in loader:
        seen += len(pixels)
    if timed:
        print(seen / (time.perf_counter() - start))
