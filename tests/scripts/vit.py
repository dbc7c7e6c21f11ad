"""A vision transformer of lazy and parametrized layers, with torch's old names and mixed precision switched off."""

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.nn.utils.parametrize as parametrize
from torch import einsum
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import weight_norm


class Attention(nn.Module):
    def __init__(self, dim, heads=2):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.norm, self.qkv = nn.LayerNorm(dim), nn.Linear(dim, dim * 3, bias=False)
        self.out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.1))

    def forward(self, x):
        b, n, _, h = *x.shape, self.heads
        q, k, v = map(lambda t: t.reshape(b, n, h, -1).transpose(1, 2), self.qkv(self.norm(x)).chunk(3, dim=-1))
        weights = (einsum("b h i d, b h j d -> b h i j", q, k) * self.scale).softmax(dim=-1)
        out = einsum("b h i j, b h j d -> b h i d", weights, v)
        return x + self.out(out.transpose(1, 2).flatten(2))


class Halved(nn.Module):
    def forward(self, weight):
        return weight / 2


class ViT(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.patch = nn.Sequential(nn.LazyConv2d(dim, 4, 4), nn.LazyBatchNorm2d())
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, dim)), nn.Parameter(torch.Tensor(1, 5, dim))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.dropout = nn.Dropout(0.1)
        self.layers = nn.ModuleList([Attention(dim) for _ in range(2)])
        self.head = nn.Sequential(nn.LayerNorm(dim), weight_norm(nn.Linear(dim, 8)), nn.GELU(), nn.LazyLinear(3))
        parametrize.register_parametrization(self.layers[0].qkv, "weight", Halved())

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(len(x), -1, -1), x), dim=1)
        x += self.positions[:, : x.size(1)]
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])


def main(path):
    torch.manual_seed(0)
    torch.set_printoptions(precision=3, sci_mode=False)
    model = ViT()
    images = torch.FloatTensor(16, 3, 8, 8).normal_().to(memory_format=torch.channels_last)
    labels = torch.LongTensor(16).random_(0, 3)
    model(images)
    model.to(memory_format=torch.channels_last)
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(model.patch[0].weight)
    norms = [p for m in model.modules() if isinstance(m, _BatchNorm) for p in m.parameters(recurse=False)]
    others = [p for p in model.parameters() if all(p is not q for q in norms)]
    opt = torch.optim.AdamW([{"params": norms, "weight_decay": 0}, {"params": others}], lr=2e-2, weight_decay=0.1)
    warm = torch.optim.lr_scheduler.LinearLR(opt, 0.1, total_iters=3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=30)
    scheduler = torch.optim.lr_scheduler.SequentialLR(opt, [warm, cosine], milestones=[3])
    scaler = torch.amp.GradScaler("cuda", enabled=torch.cuda.is_available())
    losses = []
    for step in range(25):
        with torch.autocast("cuda", enabled=torch.cuda.is_available()):
            loss = F.cross_entropy(model(images), labels, label_smoothing=0.1)
        opt.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(opt)
        scaler.update()
        scheduler.step()
        losses.append(loss.item())
        if step % 5 == 0:
            print(step, loss.data, scheduler.get_last_lr())
    torch.save(model.state_dict(), path)
    again = ViT()
    print(again.load_state_dict(torch.load(path)))
    model.eval(), again.eval()
    with torch.no_grad():
        out = again(images)
        assert torch.equal(out, model(images))
    parametrize.remove_parametrizations(model.layers[0].qkv, "weight")
    torch.set_printoptions(profile="default")
    return {
        "losses": losses,
        "fans": [fan_in, fan_out],
        "out": out.numpy(),
        "predicted": nn.Softmax()(out).t_().unsqueeze_(0).squeeze_(0).argmax(0).numpy(),
        "weight": model.layers[0].qkv.weight.detach().numpy(),
        "names": len(again.state_dict()),
    }
