"""CIFAR-100's training images through torchvision, as usual: random crop with padding 4, flip, normalize, DataLoader.

Reads cifar-100-binary/train.bin in the folder given first; the second argument is the number of workers. Prints one
line of JSON: images, seconds.
"""

import json
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Cifar(Dataset):
    def __init__(self, path, transform):
        records = np.fromfile(path, dtype=np.uint8).reshape(-1, 3074)
        self.labels = records[:, 1].astype(np.int64)
        self.images = records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy()
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def main():
    folder, workers = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    transform = transforms.Compose([
        transforms.RandomCrop(32, padding=4),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ])
    data = Cifar(f"{folder}/cifar-100-binary/train.bin", transform)
    loader = DataLoader(data, batch_size=128, shuffle=True, num_workers=workers)
    start = time.perf_counter()
    images = sum(len(labels) for _, labels in loader)
    print(json.dumps({"images": images, "seconds": time.perf_counter() - start}))


main()
