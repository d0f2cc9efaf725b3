"""Training in plain PyTorch: an epoch with an evaluation after it, again and again, timed.

    training.py FOLDER ARCHITECTURE STYLE THREADS BATCH

FOLDER has CIFAR-100's binary version. STYLE is one of
  reference  masks multiplied in every forward pass, contiguous fp32, loss.item() in every step, DataLoader
  fp32       the best one writes by hand: channels_last, fused SGD, masked gradients, images in one tensor
  bf16       the same with autocast
Says how many parameters there are, then does an epoch for every line of its standard input, and says how it was.
"""

import json
import sys
import time

import numpy as np
import torch
from torch.nn import functional as F

from models import Conv, build, random_masks

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def read(path):
    records = np.fromfile(path, dtype=np.uint8).reshape(-1, 3074)
    return records[:, 2:].reshape(-1, 3, 32, 32).copy(), records[:, 1].astype(np.int64)


def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


class Reference:
    """Images one by one through torchvision's transforms and a DataLoader."""

    def __init__(self, folder, batch):
        from PIL import Image
        from torch.utils.data import DataLoader, Dataset
        from torchvision import transforms

        end = [transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
        varied = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]

        class Cifar(Dataset):
            def __init__(self, path, transform):
                pixels, self.labels = read(path)
                self.images, self.transform = pixels.transpose(0, 2, 3, 1), transform

            def __len__(self):
                return len(self.labels)

            def __getitem__(self, index):
                return self.transform(Image.fromarray(self.images[index])), self.labels[index]

        train = Cifar(f"{folder}/train.bin", transforms.Compose(varied + end))
        test = Cifar(f"{folder}/test.bin", transforms.Compose(end))
        self.train = DataLoader(train, batch, shuffle=True, num_workers=2)
        self.test = DataLoader(test, batch, num_workers=2)

    def epoch(self):
        return iter(self.train)

    def evaluation(self):
        return iter(self.test)


class InMemory:
    """All images in one tensor; batches are moved and mirrored as a whole."""

    def __init__(self, folder, batch):
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, DEVIATION))
        self.normalize = lambda pixels: ((pixels.float() - mean) / deviation).contiguous(memory_format=torch.channels_last)
        (pixels, labels), (test, test_labels) = read(f"{folder}/train.bin"), read(f"{folder}/test.bin")
        self.pixels, self.labels = F.pad(torch.from_numpy(pixels), (4, 4, 4, 4)), torch.from_numpy(labels)
        self.test, self.test_labels, self.batch = torch.from_numpy(test), torch.from_numpy(test_labels), batch

    def epoch(self):
        windows = self.pixels.unfold(2, 32, 1).unfold(3, 32, 1).permute(0, 2, 3, 1, 4, 5)
        for index in torch.randperm(len(self.labels)).split(self.batch):
            rows, columns = torch.randint(9, (2, len(index)))
            pixels = windows[index, rows, columns]
            pixels = torch.where(torch.rand(len(index), 1, 1, 1) < 0.5, pixels.flip(3), pixels)
            yield self.normalize(pixels), self.labels[index]

    def evaluation(self):
        for pixels, labels in zip(self.test.split(512), self.test_labels.split(512)):
            yield self.normalize(pixels), labels


def main():
    folder, architecture, style, threads, batch = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    model = build(architecture, 100)
    random_masks(model)
    reference = style == "reference"
    Conv.masked = reference
    data = (Reference if reference else InMemory)(folder, int(batch))
    if not reference:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9, weight_decay=5e-4, fused=not reference)
    masked = [layer for layer in model.modules() if isinstance(layer, Conv)]
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=style == "bf16")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"parameters": parameters}), flush=True)
    before = status("VmRSS")
    for _ in sys.stdin:
        start, images = time.perf_counter(), 0
        model.train()
        total = 0.0 if reference else torch.zeros(())
        for pixels, labels in data.epoch():
            optimizer.zero_grad()
            with autocast:
                loss = F.cross_entropy(model(pixels), labels)
            loss.backward()
            if reference:
                total += loss.item()
            else:
                torch._foreach_mul_([layer.weight.grad for layer in masked], [layer.mask for layer in masked])
                total += loss.detach()
            optimizer.step()
            images += len(labels)
        model.eval()
        wrong = 0
        with torch.no_grad(), autocast:
            for pixels, labels in data.evaluation():
                wrong = wrong + (model(pixels).argmax(1) != labels).sum()
        wrong = int(wrong)
        seconds = time.perf_counter() - start
        memory = status("VmHWM") - before
        print(json.dumps({"seconds": seconds, "images": images, "memory": memory, "loss": float(total)}), flush=True)


main()
