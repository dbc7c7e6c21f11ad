"""A residual network for small images, as people write one for torch."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, in_planes, planes, stride=1):
        super(BasicBlock, self).__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != self.expansion * planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, self.expansion * planes, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(self.expansion * planes),
            )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


class ResNet(nn.Module):
    def __init__(self, block, num_blocks, num_classes=4, width=8):
        super().__init__()
        self.in_planes = width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True), nn.MaxPool2d(2)
        )
        self.layer1 = self._make_layer(block, width, num_blocks[0], stride=1)
        self.layer2 = self._make_layer(block, 2 * width, num_blocks[1], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(2 * width * block.expansion, num_classes)

        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)
        for m in self.modules():
            if isinstance(m, BasicBlock):
                m.bn2.weight.data.fill_(0.5)

    def _make_layer(self, block, planes, num_blocks, stride):
        layers = []
        for s in [stride] + [1] * (num_blocks - 1):
            layers.append(block(self.in_planes, planes, s))
            self.in_planes = planes * block.expansion
        return nn.Sequential(*layers)

    def forward(self, x):
        B = x.size(0)
        out = self.layer2(self.layer1(self.stem(x)))
        out = self.avgpool(out)
        out = out.view(B, -1)
        return self.fc(self.dropout(out))


def make_data(n):
    """Bright squares in one of four corners, in noise."""
    x = torch.randn(n, 3, 12, 12)
    y = torch.randint(0, 4, (n,))
    for i in range(n):
        r, c = divmod(y[i].item(), 2)
        x[i, :, 6 * r : 6 * r + 5, 6 * c : 6 * c + 5] += 1.5
    return (x - x.mean()) / x.std(), y


def train(model, loader, criterion, optimizer, scheduler):
    model.train()
    losses, correct, total = [], 0, 0
    for batch_idx, (inputs, targets) in enumerate(loader):
        inputs, targets = inputs.to(device), targets.to(device)
        if batch_idx % 2:
            inputs = torch.flip(inputs, dims=[3])
            targets = targets ^ 1
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        _, predicted = outputs.max(1)
        total += targets.size(0)
        correct += predicted.eq(targets).sum().item()
    print("train: loss %.4f | acc %.3f" % (losses[-1], 100.0 * correct / total))
    return losses


def test(model, loader, criterion):
    model.eval()
    test_loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data.to(device))
            test_loss += criterion(output, target).item() * data.size(0)
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    return test_loss / len(loader.dataset), correct


def main(path):
    torch.manual_seed(0)
    train_set = TensorDataset(*make_data(160))
    test_set = TensorDataset(*make_data(40))
    train_loader = DataLoader(train_set, batch_size=16, shuffle=True, num_workers=0, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=16, shuffle=False)

    model = ResNet(BasicBlock, [1, 1]).to(device)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=30)
    losses = []
    for epoch in range(3):
        losses += train(model, train_loader, criterion, optimizer, scheduler)
        test_loss, correct = test(model, test_loader, criterion)
        print(
            f"epoch {epoch}: test loss {test_loss:.4f}, {correct}/{len(test_set)}, lr {scheduler.get_last_lr()[0]:.4f}"
        )

    torch.save(model.state_dict(), path)
    again = ResNet(BasicBlock, [1, 1])
    again.load_state_dict(torch.load(path))
    assert test(again, test_loader, criterion) == (test_loss, correct)
    return {
        "losses": losses,
        "test loss": test_loss,
        "correct": correct,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "running mean": model.stem[1].running_mean.abs().sum().item(),
        "batches": model.stem[1].num_batches_tracked.item(),
    }


if __name__ == "__main__":
    main("/tmp/resnet.pt")
