"""The error barrier as it is usually measured: for every point of the path a pass over the training images through a
DataLoader, to estimate BatchNorm's statistics anew, and then the test images.

    barrier.py PATH ARCHITECTURE CLASSES POINTS THREADS BATCH [WORKERS]

WORKERS of the DataLoaders are as many as THREADS unless given. PATH is the folder of CIFAR-100's binary version, or the packed digits. Says how many parameters there are, then measures
a barrier for every line of its standard input, and says how long it took.
"""

import copy
import gzip
import json
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from models import Conv, build, random_masks


def read(path):
    """Images and labels for training, then those for testing."""
    if path.endswith(".gz"):
        numbers = np.frombuffer(gzip.open(path).read(), dtype=np.uint8)
        pixels, labels = numbers[: 1797 * 64].reshape(-1, 1, 8, 8), numbers[1797 * 64 :]
        return (pixels[:1437], labels[:1437]), (pixels[1437:], labels[1437:])
    records = [np.fromfile(f"{path}/{part}.bin", dtype=np.uint8).reshape(-1, 3074) for part in ("train", "test")]
    return [(part[:, 2:].reshape(-1, 3, 32, 32), part[:, 1]) for part in records]


class Images(Dataset):
    def __init__(self, pixels, labels, transform):
        self.images = pixels.transpose(0, 2, 3, 1).squeeze().copy()
        self.labels, self.transform = labels.astype(np.int64), transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def main():
    path, architecture, classes, points, threads, batch, *workers = sys.argv[1:]
    workers = int(workers[0] if workers else threads)
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    Conv.masked = True
    ends = [build(architecture, int(classes)) for _ in range(2)]
    for end in ends:
        random_masks(end)
    (pixels, labels), (test_pixels, test_labels) = read(path)
    side, channels = pixels.shape[2], pixels.shape[1]
    last = [transforms.ToTensor(), transforms.Normalize((0.5,) * channels, (0.25,) * channels)]
    varied = [transforms.RandomCrop(side, padding=4 if channels == 3 else 2)]
    varied += [transforms.RandomHorizontalFlip()] if channels == 3 else []
    train = Images(pixels, labels, transforms.Compose(varied + last))
    test = Images(test_pixels, test_labels, transforms.Compose(last))
    train = DataLoader(train, int(batch), shuffle=True, num_workers=workers)
    test = DataLoader(test, int(batch), num_workers=workers)

    def barrier():
        errors = []
        for t in np.linspace(0, 1, int(points)):
            network = copy.deepcopy(ends[0])
            with torch.no_grad():
                for own, a, b in zip(network.parameters(), *(end.parameters() for end in ends)):
                    own.copy_(t * a + (1 - t) * b)
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.reset_running_stats()
            network.train()
            with torch.no_grad():
                for images, _ in train:
                    network(images)
            network.eval()
            wrong = 0
            with torch.no_grad():
                for images, labels in test:
                    wrong += (network(images).argmax(1) != labels).sum().item()
            errors.append(wrong / len(test_labels))
        return max(errors) - (errors[0] + errors[-1]) / 2

    parameters = sum(parameter.numel() for parameter in ends[0].parameters())
    print(json.dumps({"parameters": parameters}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = barrier()
        print(json.dumps({"seconds": time.perf_counter() - start, "barrier": found}), flush=True)


main()
