"""What the twins have in the place of pargrad's Trainer: an ordinary loop over the same batches in the same order."""

import math

import torch


class Trainer:
    """The names of pargrad's Trainer. num_workers is ignored: this process computes every batch as a whole."""

    def __init__(self, model, loss, optimizer, *, batch_size, num_workers="auto", seed=0):
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.batch_size, self.seed = batch_size, seed
        self.epoch = 0
        self.batches = []  # those of this epoch that are still to come
        self.history = []

    def fit(self, data, *, epochs=None, max_steps=None, validation=None):
        """Trains for so many more epochs or steps, whichever ends first; another call goes on in mid-epoch."""
        inputs, target = map(torch.as_tensor, data)
        self.model.train()
        last_epoch, steps = math.inf if epochs is None else self.epoch + epochs, 0
        max_steps = math.inf if max_steps is None else max_steps
        while self.epoch < last_epoch and steps < max_steps:
            if not self.batches:
                shuffle = torch.Generator().manual_seed(self.seed + self.epoch)
                self.batches = list(torch.randperm(len(inputs), generator=shuffle).split(self.batch_size))
            total, examples = 0.0, 0
            while self.batches and steps < max_steps:
                batch = self.batches.pop(0)
                total += self.step(inputs[batch], target[batch]) * len(batch)
                examples, steps = examples + len(batch), steps + 1
            self.history.append({"loss": total / examples})
            if not self.batches:
                self.epoch += 1
                if validation is not None:
                    self.history[-1]["validation_loss"] = self.score(validation, "loss")
        return self.history

    def step(self, inputs, target):
        loss = self.loss(self.model(inputs), target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def score(self, data, metric="accuracy"):
        outputs, target = torch.from_numpy(self.predict(data)), torch.as_tensor(data[1])
        if metric == "loss":
            return self.loss(outputs, target).item()
        return (outputs.argmax(1) == target).double().mean().item()

    @torch.no_grad()
    def predict(self, data):
        self.model.eval()
        return torch.cat([self.model(inputs) for inputs in torch.as_tensor(data[0]).split(512)]).numpy()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass
