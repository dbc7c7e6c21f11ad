"""A DCGAN on blobs, a VAE and a target network, in the manner of torch's examples."""

import argparse
import copy
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
import torch.utils.data
from torch.autograd import Variable

parser = argparse.ArgumentParser()
parser.add_argument("--nz", type=int, default=8)
parser.add_argument("--ngf", type=int, default=8)
parser.add_argument("--no-cuda", action="store_true", default=False)
opt = parser.parse_args([])
opt.cuda = not opt.no_cuda and torch.cuda.is_available()
device = torch.device("cuda" if opt.cuda else "cpu")


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        torch.nn.init.normal_(m.weight, 0.0, 0.02)
    elif classname.find("BatchNorm") != -1:
        m.weight.data.normal_(1.0, 0.02)
        m.bias.data.fill_(0)


class Generator(nn.Module):
    def __init__(self, nz, ngf):
        super(Generator, self).__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(ngf * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    def __init__(self, ndf):
        super(Discriminator, self).__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, ndf, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, input):
        return self.main(input).view(-1, 1).squeeze(1)


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(64, 32)
        self.fc21 = nn.Linear(32, 4)
        self.fc22 = nn.Linear(32, 4)
        self.fc3 = nn.Linear(4, 32)
        self.fc4 = nn.Linear(32, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


class QNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 16), nn.Linear(16, 2)])

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i < len(self.layers) - 1:
                x = F.elu(x, inplace=True)
        return x


def main(path):
    seed = 7
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)

    class Blobs(torch.utils.data.Dataset):
        def __init__(self, n):
            yy, xx = np.mgrid[:8, :8]
            c = np.random.uniform(2, 5, (n, 2, 1, 1))
            self.x = np.exp(-((yy - c[:, 0]) ** 2 + (xx - c[:, 1]) ** 2) / 4).astype(np.float32)[:, None]

        def __getitem__(self, i):
            return self.x[i], 0

        def __len__(self):
            return len(self.x)

    dataloader = torch.utils.data.DataLoader(Blobs(160), batch_size=16, shuffle=True, num_workers=0, pin_memory=False)
    netG = Generator(opt.nz, opt.ngf).to(device)
    netG.apply(weights_init)
    netD = Discriminator(8).to(device)
    netD.apply(weights_init)
    print(netD)
    criterion = nn.BCELoss()
    fixed_noise = torch.randn(16, opt.nz, 1, 1, device=device)
    real_label, fake_label = 1.0, 0.0
    optimizerD = optim.Adam(netD.parameters(), lr=2e-3, betas=(0.5, 0.999))
    optimizerG = optim.Adam(netG.parameters(), lr=2e-3, betas=(0.5, 0.999))
    vae = VAE().to(device)
    optimizer = optim.RMSprop(vae.parameters(), lr=1e-3)
    losses, d_losses = [], []
    for epoch in range(2):
        for i, data in enumerate(dataloader, 0):
            netD.zero_grad()
            real_cpu = data[0].to(device)
            batch_size = real_cpu.size(0)
            label = torch.full((batch_size,), real_label, dtype=real_cpu.dtype, device=device)
            output = netD(real_cpu)
            errD_real = criterion(output, label)
            errD_real.backward()
            D_x = output.mean().item()
            noise = torch.randn(batch_size, opt.nz, 1, 1, device=device)
            fake = netG(noise)
            label.fill_(fake_label)
            output = netD(fake.detach())
            errD_fake = criterion(output, label)
            errD_fake.backward()
            errD = errD_real + errD_fake
            optimizerD.step()
            netG.zero_grad()
            label.fill_(real_label)
            output = netD(fake)
            errG = criterion(output, label)
            errG.backward()
            optimizerG.step()
            d_losses.append(errD.item())
            vae.train()
            x = Variable(real_cpu)
            optimizer.zero_grad()
            recon_batch, mu, logvar = vae(x)
            loss = loss_function(recon_batch, x, mu, logvar)
            loss.backward()
            optimizer.step()
            losses.append(loss.item() / len(data[0]))
        print(f"[{epoch}] Loss_D: {errD.item():.4f} Loss_G: {errG.item():.4f} D(x): {D_x:.4f}")
    fake = netG(fixed_noise).detach().cpu().numpy()

    policy, target = QNet(), QNet()
    target.load_state_dict(policy.state_dict())
    target.eval()
    best = copy.deepcopy(policy.state_dict())
    opt2 = optim.SGD(filter(lambda p: p.requires_grad, policy.parameters()), lr=0.05, momentum=0.9)
    td = []
    for step in range(20):
        s, s2 = torch.rand(32, 4), torch.rand(32, 4)
        a = torch.randint(0, 2, (32, 1))
        r = s.gather(1, a)
        done = (torch.rand(32) < 0.1).float()
        q = policy(s).gather(1, a).squeeze(1)
        with torch.no_grad():
            q2 = target(s2).max(1)[0]
            y = r.squeeze(1) + 0.9 * q2 * (1 - done)
        loss = F.smooth_l1_loss(q, y)
        opt2.zero_grad()
        loss.backward()
        for param in policy.parameters():
            param.grad.data.clamp_(-1, 1)
        opt2.step()
        for t, p in zip(target.parameters(), policy.parameters()):
            t.data.mul_(0.9).add_(p.data, alpha=0.1)
        td.append(float(loss))
    for k in best:
        assert not torch.equal(best[k], policy.state_dict()[k])
    return {
        "losses": losses,
        "D": d_losses,
        "td": td,
        "fake": [float(fake.mean()), float(fake.std())],
        "q": target(torch.ones(1, 4)).tolist(),
    }
