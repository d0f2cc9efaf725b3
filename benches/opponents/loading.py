"""Images per second of torchvision's ImageFolder and PyTorch's DataLoader, as most training scripts use them.

    python loading.py FOLDER IMAGES WORKERS

Prints one number. One pass comes before the timed one, so that the workers have started.
"""

import sys
import time

import torch
from torchvision import datasets, transforms

folder, images, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
view = transforms.Compose(
    [
        transforms.RandomResizedCrop(224),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)
dataset = datasets.ImageFolder(folder, view)
dataset = torch.utils.data.ConcatDataset([dataset] * -(-images // len(dataset)))
loader = torch.utils.data.DataLoader(dataset, batch_size=256, shuffle=True, num_workers=workers, persistent_workers=True)
for timed in (False, True):
    start, seen = time.perf_counter(), 0
    for pixels, _ in loader:
        seen += len(pixels)
    if timed:
        print(seen / (time.perf_counter() - start))
