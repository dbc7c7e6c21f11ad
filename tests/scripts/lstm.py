"""A classifier of sentences of different lengths with an LSTM, as people write one for torch."""

import random

import torch
from torch import nn, optim
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, random_split

PAD, VOCAB = 0, 30


class Sentences(Dataset):
    """Words from 1 on; a sentence is positive if it has more words below 15 than others."""

    def __init__(self, count, seed=0):
        rng = random.Random(seed)
        self.samples = []
        for _ in range(count):
            words = [rng.randrange(1, VOCAB) for _ in range(rng.randint(3, 12))]
            label = float(sum(w < 15 for w in words) * 2 > len(words))
            self.samples.append((torch.tensor(words, dtype=torch.long), label))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, idx):
        return self.samples[idx]


def collate(batch):
    texts, labels = zip(*batch)
    lengths = torch.tensor([len(t) for t in texts])
    return pad_sequence(texts, batch_first=True, padding_value=PAD), lengths, torch.tensor(labels)


class SentimentLSTM(nn.Module):
    def __init__(self, vocab_size, embed_dim, hidden_dim, n_layers, dropout):
        super().__init__()
        self.n_layers, self.hidden_dim = n_layers, hidden_dim
        self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=PAD)
        self.rnn = nn.LSTM(
            embed_dim, hidden_dim, num_layers=n_layers, bidirectional=True, dropout=dropout, batch_first=True
        )
        self.attend = nn.Linear(2 * hidden_dim, 1, bias=False)
        self.fc = nn.Linear(4 * hidden_dim, 1)
        self.dropout = nn.Dropout(dropout)
        self.init_weights()

    def init_weights(self):
        for name, param in self.rnn.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(param.data)
            elif "bias" in name:
                n = param.size(0)
                param.data.fill_(0)
                param.data[n // 4 : n // 2].fill_(1.0)  # forget gates begin open

    def init_hidden(self, batch_size):
        weight = next(self.parameters()).data
        shape = (self.n_layers * 2, batch_size, self.hidden_dim)
        return (weight.new_zeros(shape), weight.new(*shape).zero_())

    def forward(self, text, text_lengths, hidden=None):
        embedded = self.dropout(self.embedding(text))
        packed = pack_padded_sequence(embedded, text_lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed_output, (hidden, cell) = self.rnn(packed, hidden)
        output, _ = pad_packed_sequence(packed_output, batch_first=True)
        last = torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1)
        scores = self.attend(output).squeeze(-1)
        scores = scores.masked_fill(text[:, : scores.size(1)] == PAD, -1e9)
        context = torch.bmm(torch.softmax(scores, dim=1).unsqueeze(1), output).squeeze(1)
        return self.fc(self.dropout(torch.cat([last, context], dim=-1))).squeeze(1)


def binary_accuracy(preds, y):
    rounded_preds = torch.round(torch.sigmoid(preds))
    return (rounded_preds == y).float().mean()


def evaluate(model, iterator, criterion):
    epoch_loss, epoch_acc = 0.0, 0.0
    model.eval()
    with torch.no_grad():
        for text, lengths, labels in iterator:
            predictions = model(text, lengths)
            epoch_loss += criterion(predictions, labels).item()
            epoch_acc += binary_accuracy(predictions, labels).item()
    return epoch_loss / len(iterator), epoch_acc / len(iterator)


def main(path):
    torch.manual_seed(1234)
    train_data, valid_data = random_split(Sentences(200), [160, 40], generator=torch.Generator().manual_seed(1))
    train_iterator = DataLoader(train_data, batch_size=16, shuffle=True, collate_fn=collate)
    valid_iterator = DataLoader(valid_data, batch_size=20, collate_fn=collate)

    model = SentimentLSTM(VOCAB, 12, 16, 2, 0.3)
    model.embedding.weight.data[PAD] = torch.zeros(12)
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    criterion = nn.BCEWithLogitsLoss()

    losses, norms, best_valid_loss = [], [], float("inf")
    for epoch in range(4):
        model.train()
        for text, lengths, labels in train_iterator:
            hidden = tuple(h.detach() for h in model.init_hidden(text.size(0)))
            model.zero_grad()
            predictions = model(text, lengths, hidden)
            loss = criterion(predictions, labels)
            loss.backward()
            norms.append(float(clip_grad_norm_(model.parameters(), max_norm=0.5)))
            optimizer.step()
            losses.append(loss.detach().cpu().numpy().item())
        scheduler.step()
        valid_loss, valid_acc = evaluate(model, valid_iterator, criterion)
        if valid_loss < best_valid_loss:
            best_valid_loss = valid_loss
            torch.save(model.state_dict(), path)
        print(f"Epoch {epoch + 1:02}: loss {loss:.3f}, val. loss {valid_loss:.3f}, val. acc {valid_acc * 100:.2f}%")

    model.load_state_dict(torch.load(path))
    best, accuracy = evaluate(model, valid_iterator, criterion)
    assert best == best_valid_loss
    return {"losses": losses, "norms": norms, "best": best, "accuracy": accuracy, "lr": scheduler.get_last_lr()[0]}


if __name__ == "__main__":
    main("/tmp/lstm.pt")
