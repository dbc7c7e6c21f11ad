"""A policy gradient, an actor and its critic, a flow and an ensemble, as scripts of reinforcement learning do it."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions import Categorical, Independent, MultivariateNormal, Normal, kl_divergence
from torch.func import functional_call, grad, stack_module_state, vmap


def mlp(sizes, activation=nn.Tanh, output_activation=nn.Identity):
    layers = []
    for i in range(len(sizes) - 1):
        layers += [nn.Linear(sizes[i], sizes[i + 1]), activation() if i < len(sizes) - 2 else output_activation()]
    return nn.Sequential(*layers)


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic, self.actor = mlp([3, 16, 1]), mlp([3, 16, 2])
        self.logstd = nn.Parameter(torch.zeros(1, 2))
        nn.init.orthogonal_(self.critic[0].weight, np.sqrt(2))

    def forward(self, obs):
        mean = self.actor(obs)
        return Independent(Normal(mean, self.logstd.expand_as(mean).exp()), 1), self.critic(obs).squeeze(-1)


class Coupling(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = nn.Parameter(mask, requires_grad=False)
        self.net = mlp([2, 8, 4], nn.LeakyReLU)

    def forward(self, x):
        kept = self.mask * x
        s, t = self.net(kept).chunk(2, dim=1)
        s, t = torch.tanh(s) * (1 - self.mask), t * (1 - self.mask)
        return kept + (1 - self.mask) * (x - t) * torch.exp(-s), -s.sum(dim=1)


def main(path):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    agent, losses = Agent(), []
    opt = torch.optim.Adam(agent.parameters(), lr=1e-2, eps=1e-5)
    obs = torch.Tensor(rng.normal(size=(64, 3)).tolist())
    with torch.no_grad():
        old, _ = agent(obs)
        actions = old.sample()
        rewards = -(actions - obs[:, :2]).pow(2).sum(-1)
    for epoch in range(15):
        indices = np.arange(64)
        rng.shuffle(indices)
        for start in range(0, 64, 32):
            rows = indices[start : start + 32]
            policy, value = agent(obs[rows])
            ratio = (policy.log_prob(actions[rows]) - old.log_prob(actions)[rows]).exp()
            advantage = (rewards[rows] - rewards.mean()) / (rewards.std() + 1e-8)
            gain = torch.max(-advantage * ratio, -advantage * torch.clamp(ratio, 0.8, 1.2)).mean()
            loss = gain - 0.001 * policy.entropy().mean() + 0.5 * F.mse_loss(value, rewards[rows])
            opt.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            opt.step()
            losses.append(loss.item())
        if epoch % 5 == 0:
            base = Independent(Normal(0 * obs[:32, :2], 1.0), 1)
            print(f"epoch {epoch} loss {losses[-1]:.4f} kl {kl_divergence(policy, base).mean():.3f}")

    flow = nn.ModuleList([Coupling(torch.tensor([float(i % 2), float((i + 1) % 2)])) for i in range(2)])
    prior = MultivariateNormal(torch.zeros(2), torch.eye(2))
    opt = torch.optim.Adam([p for p in flow.parameters() if p.requires_grad], lr=1e-2)
    likelihoods = []
    for _ in range(10):
        angle = torch.rand(32) * math.pi
        z = torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(32, 2)
        total = z.new_zeros(z.shape[0])
        for layer in reversed(flow):
            z, change = layer(z)
            total += change
        loss = -(prior.log_prob(z) + total).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        likelihoods.append(loss.item())
    print("flow", likelihoods[-1])

    scores = mlp([3, 8, 4])
    chosen = Categorical(logits=scores(obs))
    picks = chosen.sample()
    gradients = torch.autograd.grad(-(chosen.log_prob(picks) * rewards).mean(), list(scores.parameters()))

    def loss_of(parameters, x, y):
        return F.cross_entropy(functional_call(scores, parameters, (x.unsqueeze(0),)), y.unsqueeze(0))

    each = vmap(grad(loss_of), in_dims=(None, 0, 0))({k: v.detach() for k, v in scores.named_parameters()}, obs, picks)
    models = [mlp([3, 4, 1]) for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    ensemble = vmap(lambda p, b: functional_call(models[0], (p, b), (obs,)))(parameters, buffers)
    print("picks", picks[:8].tolist())
    return {
        "losses": losses,
        "likelihoods": likelihoods,
        "gradients": [g.norm().item() for g in gradients],
        "per sample": [g.pow(2).sum().item() for g in each.values()],
        "ensemble": ensemble.detach().numpy(),
    }
