"""Wrong uses of training: each ends in one message that names the value and the remedy.

The command prints it without a traceback and gives an exit code of its own; the library raises one type of error.
"""

import fcntl
import re
import threading

import numpy as np
import pytest

import pargrad.nn.functional as F
from pargrad import nn, optim
from pargrad.cli import main
from pargrad.data.recipe import Recipe
from pargrad.data.tabular import read_table
from pargrad.parallel import CannotSendError, CheckpointError, NonFiniteError, ResourcesError, Trainer
from pargrad.parallel.payload import pack
from pargrad.parallel.run_directory import LOCK
from tests.training import CLASSES, adamw, examples, mlp

HEADER = "height,colour,kind\n"
ROWS = [f"{i % 7}.5,{'red' if i % 2 else 'blue'},{'cat' if i % 3 else 'dog'}\n" for i in range(40)]
CSV = {
    "good.csv": HEADER + "".join(ROWS),
    "empty.csv": "",
    "header.csv": HEADER,
    "headless.csv": "1,2,3\n4,5,6\n",
    "text.csv": HEADER + "".join([*ROWS[:10], "tall,red,cat\n", *ROWS[10:]]),
    "missing.csv": HEADER + "".join([*ROWS[:4], ",red,cat\n"]),
    "nan.csv": HEADER + "".join([*ROWS[:4], "nan,red,cat\n"]),
    "inf.csv": HEADER + "".join([*ROWS[:4], "inf,red,cat\n"]),
    "gone.csv": HEADER + "".join(f",{row.partition(',')[2]}" for row in ROWS),
    "short.csv": HEADER + "".join([*ROWS[:4], "1.5,red\n"]),
    "one.csv": HEADER + "".join(row.replace("dog", "cat") for row in ROWS),
    "twice.csv": "height,height,kind\n" + "".join(ROWS),
    "amounts.csv": "x,y\n" + "".join(f"{i},{i}.5\n" for i in range(40)),
    "names.csv": "name,kind\n" + "".join(f"name {i},{i % 2}\n" for i in range(200)),
    "remarks.csv": "his name,remark,kind\n" + "".join(f"name {i},r{i},{i % 2}\n" for i in range(200)),
    "holes.csv": HEADER + "".join([*ROWS[:4], ",red,cat\n", *ROWS[:4], ",red,cat\n"]),
}
MODULE = """
import numpy as np
from pargrad import nn

x = np.zeros((64, 4), np.float32)
y = np.zeros(64, np.int64)
number = 3

def good():
    return nn.Linear(4, 2), (x, y)

def fails():
    return {}["weights"]

def gives_none():
    return None

def gives_text():
    return "model", (x, y)

def without_data():
    return nn.Linear(4, 2), None

def too_narrow():
    return nn.Linear(3, 2), (x, y)

def label_out_of_range():
    return nn.Linear(4, 2), (x, y + 7)

def loss_that_is_a_mean():
    model = nn.Linear(4, 2)
    from pargrad import optim
    return model, lambda output, target: output.mean(), optim.SGD(model.parameters()), (x, y)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a file for each wrong use."""
    folder = tmp_path_factory.mktemp("wrong")
    for name, text in CSV.items():
        (folder / name).write_text(text)
    (folder / "wrong_module.py").write_text(MODULE)
    (folder / "latin.csv").write_bytes("h\xf6he,kind\n1,a\n2,b\n".encode("latin-1"))
    (folder / "broken.npz").write_bytes(b"PK not a zip")
    np.savez(folder / "lengths.npz", x=np.zeros((5, 2)), y=np.zeros(4))
    np.savez(folder / "without_y.npz", x=np.zeros((5, 2)))
    np.savez(folder / "nan.npz", x=np.array([[0.0, 1.0], [np.nan, 1.0]]), y=np.array([0, 1]))
    np.savez(folder / "objects.npz", x=np.array([["a"], ["b"]]), y=np.array([0, 1]))
    np.save(folder / "flat.npy", np.zeros(5))
    (folder / "unreadable.yaml").write_text("batch_size: [1, 2\n")
    (folder / "unknown.yaml").write_text("batchsize: 64\n")
    (folder / "imports.yaml").write_text("data_set: os:getcwd\n")
    (folder / "file").write_text("")
    (folder / "nothing").mkdir()
    return folder


# the arguments of `pargrad train`; the exit code; what is said
COMMANDS = {
    "a name that is misspelt": ("mnits", 2, r"got 'mnits', expected mnist, .*; did you mean 'mnist'\?"),
    "a file that is not there": ("no.csv --target y", 2, r"no\.csv: there is no such file"),
    "no target": ("good.csv", 2, r"Write --target COLUMN, one of height, colour, kind"),
    "a target that is not there": ("good.csv --target kinds", 2, r"no column 'kinds', only .*; did you mean 'kind'\?"),
    "an ignored column that is not there": ("good.csv --target kind --ignore hight", 2, r"did you mean 'height'\?"),
    "nothing to predict from": ("good.csv --target kind --ignore height,colour", 2, r"no column to predict it from"),
    "an empty table": ("empty.csv --target y", 2, r"empty\.csv is empty: expected a header"),
    "a table of a header": ("header.csv --target kind", 2, r"has 0 rows: expected two at least"),
    "a table without a header": ("headless.csv --target y", 2, r"no header: its first line is 1, 2, 3"),
    "text among numbers": ("text.csv --target kind", 2, r"line 12, column 'height': 'tall' is not a number"),
    "a value that is missing": ("missing.csv --target kind", 2, r"line 6, column 'height': the value is missing"),
    "values that are missing": ("holes.csv --target kind", 2, r"line 6, .* the value is missing, as in 1 more: fill"),
    "nan in a table": ("nan.csv --target kind", 2, r"line 6, column 'height': the value is missing: .* --missing mean"),
    "a target that is missing": ("missing.csv --target height --missing mean", 2, r"missing: fill it in, or remove"),
    "a column without values": ("gone.csv --target kind --missing mean", 2, r"'height': no row to train on has a"),
    "an infinite number in a table": ("inf.csv --target kind --missing mean", 2, r"'height': inf is not finite"),
    "a row that is too short": ("short.csv --target kind", 2, r"line 6: got 2 values, expected 3"),
    "two columns of one name": ("twice.csv --target kind", 2, r"two columns named 'height'"),
    "one class only": ("one.csv --target kind", 2, r"'kind' is cat in all rows: expected two classes"),
    "amounts as classes": ("amounts.csv --target y --task classification", 2, r"has 0\.5: expected whole numbers"),
    "texts as amounts": ("good.csv --target kind --task regression", 2, r"'kind' holds texts"),
    "a column of names": ("names.csv --target kind", 2, r"200 different texts, .*--ignore name"),
    "names and remarks": ("remarks.csv --target kind", 2, r"so have 'remark'\): .* --ignore 'his name,remark'"),
    "another encoding": ("latin.csv --target kind", 2, r"latin\.csv is no CSV file in UTF-8"),
    "a validation of everything": ("good.csv --target kind --validation-fraction 1", 2, r"less than 1"),
    "a damaged archive": ("broken.npz", 2, r"broken\.npz is no \.npz file"),
    "arrays of two lengths": ("lengths.npz", 2, r"x has 5 rows and y has 4"),
    "an archive without targets": ("without_y.npz", 2, r"has x, and no y: write numpy\.savez"),
    "nan in an array": ("nan.npz", 2, r"row 1 of x: nan at \[0\]"),
    "texts in an array": ("objects.npz", 2, r"x is of <U1: expected numbers"),
    "an array of one axis": ("flat.npy", 2, r"shape \(5,\), expected \(rows, columns\)"),
    "a table's option for images": ("mnist --target label", 2, r"--target has no meaning for mnist"),
    "an images' option for a table": ("good.csv --target kind --model cnn", 2, r"--model has no meaning for good\.csv"),
    "a module that is not there": ("no_module:make", 2, r"No module named 'no_module'"),
    "a function that is not there": ("wrong_module:make", 2, r"has no attribute 'make'"),
    "a number for a function": ("wrong_module:number", 2, r"is int: expected a function that gives"),
    "a function that fails": ("wrong_module:fails", 2, r"KeyError: 'weights' \(.*wrong_module\.py, line 13\)"),
    "a function that gives nothing": ("wrong_module:gives_none", 2, r"gave NoneType: expected \(model, data\)"),
    "a function that gives no model": ("wrong_module:gives_text", 2, r"gave \(str, tuple\): expected a pargrad\.nn"),
    "a function that gives no data": ("wrong_module:without_data", 2, r"its data cannot be used: .* got NoneType"),
    "a model that is too narrow": ("wrong_module:too_narrow", 2, r"expected input of shape .* got \(.*, 4\)"),
    "a label out of range": ("wrong_module:label_out_of_range", 2, r"class 7 is out of range.*\n  in step 1 "),
    "a loss that gives a mean": ("wrong_module:loss_that_is_a_mean", 2, r"needs to know what it is divided by"),
    "an option of another optimizer": ("wrong_module:loss_that_is_a_mean --lr 1", 2, r"optimizer of its own"),
    "no epochs": ("mnist --epochs 0", 2, r"--epochs 0: expected at least 1"),
    "a negative learning rate": ("mnist --lr=-1", 2, r"--lr -1\.0: expected a finite number >= 0"),
    "an unknown optimizer": ("mnist --optimizer AdmaW", 2, r"--optimizer AdmaW: .*did you mean 'AdamW'\?"),
    "an option that an optimizer lacks": ("mnist --optimizer Adam --momentum 0.9", 2, r"--optimizer Adam: .*momentum"),
    "an unknown schedule": ("mnist --scheduler Cosine", 2, r"--scheduler Cosine.*CosineAnnealingLR"),
    "an unknown metric": ("mnist --metrics recal", 2, r"unknown metric 'recal', did you mean 'recall'\?"),
    "a batch larger than the data": ("mnist --batch-size 6000", 2, r"batch_size 6000 is larger .* 5000 examples"),
    "shards that are no power of two": ("mnist --shards 6", 2, r"power of two"),
    "negative workers": ("mnist --num-workers -1", 2, r"num_workers"),
    "more workers than shards": ("mnist --num-workers 16", 2, r"shards=16"),
    "more workers than cores": ("mnist --num-workers 4096 --shards 4096", 3, r"asked for 4096 workers"),
    "an address that is none": ("mnist --num-workers 1 --address nowhere", 2, r"'HOST:PORT', got 'nowhere'"),
    "a directory that cannot be written": ("mnist --run-dir /proc/run", 2, r"/proc/run"),
    "a file for a run directory": ("mnist --run-dir file", 2, r"file"),
    "a checkpoint that is not there": ("mnist --run-dir new --resume nowhere", 5, r"nowhere"),
    "figures into no directory": ("mnist --json no/such/figures.json", 2, r"there is no directory"),
    "a data directory without data": ("mnist --data-dir nothing", 2, r"found no train-images"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_says_what_is_wrong(name, place, monkeypatch, capsys):
    arguments, code, told = COMMANDS[name]
    monkeypatch.chdir(place)
    serial = [] if "--num-workers" in arguments or "--address" in arguments else ["--num-workers", "0"]
    assert main(["train", *arguments.split(), *serial, "--progress", "off"]) == code
    errors = capsys.readouterr().err
    assert re.search(told, errors), errors
    assert "Traceback" not in errors
    assert errors.startswith("pargrad: ")


@pytest.mark.parametrize(("arguments", "told"), [
    ("mnist --config unreadable.yaml", "unreadable.yaml: it is no YAML: while parsing a flow sequence"),
    ("mnist --config nowhere.yaml", "nowhere.yaml: it cannot be read"),
    ("mnist --config=unknown.yaml", "unknown.yaml: there is no option batchsize, did you mean batch_size?"),
    ("mnist --config empty.csv", "empty.csv: expected lines such as"),
    ("--config imports.yaml", "'os:getcwd' names something to import, which is never taken from a file"),
    ("mnist --lr fast", "fast"),
    ("mnist --epochs 1.5", "1.5"),
    ("mnist --task clasification", "expected auto, classification or regression. Did you mean classification?"),
    ("mnist --fast-devrun", "Did you mean --fast-dev-run?"),
])  # fmt: skip
def test_the_command_does_not_begin(arguments, told, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments.split()])
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert told in errors
    assert "Traceback" not in errors


# ----- the library -----


def trainer(model=None, loss=F.cross_entropy, optimizer=None, **options):
    model = model or mlp()
    return Trainer(
        model, loss, optimizer or adamw(model), **{"batch_size": 32, "num_workers": 0, "progress": "off", **options}
    )


def fit(data, **options):
    with trainer(**options) as one:
        one.fit(data, epochs=1)


def used_after_close(method, *arguments, **options):
    one = trainer()
    one.close()
    getattr(one, method)(*arguments, **options)


def locked(folder):
    """As another process has it: a lock is of a file that was opened, not of a process."""
    with (folder / LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        trainer(run_dir=folder).close()


def with_nan():
    x, y = examples()
    x[17, 3] = np.nan
    fit((x, y))


def labelled(value):
    x, y = examples()
    y[5] = value
    return x, y


def with_a_lock():
    model = mlp()
    model.lock = threading.Lock()
    import cloudpickle

    from pargrad.parallel.objective import Objective

    class Work:
        objective, penalty = Objective(F.cross_entropy), None

    work = Work()
    work.model = model
    pack(cloudpickle, work)


def predicted(x):
    with trainer() as one:
        one.predict(x)


def scored(metric):
    with trainer() as one:
        one.score(examples(), metric)


def replaced_under_way():
    model = mlp()
    with trainer(model) as one:
        one.fit(examples(), max_steps=1)
        model[0].weight = nn.Parameter(np.zeros((40, 12), np.float32))
        one.fit(examples(), max_steps=1)


def other_checkpoint(folder):
    with trainer(run_dir=folder) as one:
        one.fit(examples(), max_steps=1)
    with trainer(nn.Sequential(nn.Linear(12, 41), nn.ReLU(), nn.Linear(41, CLASSES)), run_dir=folder) as one:
        one.fit(examples(), max_steps=1)


def damaged_checkpoint(folder):
    with trainer(run_dir=folder) as one:
        one.fit(examples(), max_steps=1)
    for path in folder.glob("checkpoints/step-*/state.json"):
        path.write_text("{")
    trainer(run_dir=folder).close()


X, Y = examples()

# what is done, in a directory of its own; the type of error; what is said
LIBRARY = {
    "fit without an end": (lambda d: trainer().fit((X, Y)), ValueError, r"needs an end: write epochs=3"),
    "fit without an optimizer": (
        lambda d: Trainer(mlp(), F.cross_entropy, None, batch_size=8, num_workers=0).fit((X, Y), epochs=1),
        ValueError, r"needs an optimizer: write Trainer",
    ),
    "negative epochs": (lambda d: trainer().fit((X, Y), epochs=-1), ValueError, r"epochs .* at least 0, got -1"),
    "half an epoch": (lambda d: trainer().fit((X, Y), epochs=0.5), ValueError, r"epochs .* integer .* got 0\.5"),
    "fit after close": (
        lambda d: used_after_close("fit", examples(), epochs=1), RuntimeError, r"this trainer is closed: make a new",
    ),
    "evaluate after close": (
        lambda d: used_after_close("evaluate", examples()), RuntimeError, r"this trainer is closed: make a new one",
    ),
    "predict after close": (
        lambda d: used_after_close("predict", X), RuntimeError, r"this trainer is closed: make a new one",
    ),
    "evaluate of a model without shapes": (
        lambda d: trainer(model=nn.Sequential(nn.LazyLinear(5)), optimizer=adamw(mlp())).evaluate((X, Y)),
        ValueError, r"0\.weight, 0\.bias have no shape yet: call the model on one batch before the Trainer",
    ),
    "weights of another model": (
        lambda d: mlp().load_state_dict(nn.Sequential(nn.Linear(12, 41)).state_dict()),
        RuntimeError, r"0\.weight: expected shape \(40, 12\), got \(41, 12\)",
    ),
    "no module": (
        lambda d: trainer(model=lambda x: x, optimizer=adamw(mlp())), TypeError, r"nn\.Module .* got function",
    ),
    "no optimizer": (lambda d: trainer(optimizer=0.001), TypeError, r"optim\.AdamW\(model\.parameters.*got float"),
    "an optimizer over other parameters": (
        lambda d: fit((X, Y), optimizer=adamw(mlp())), ValueError, r"4 parameters that the model does not",
    ),
    "no loss": (lambda d: trainer(loss="cross_entropy"), TypeError, r"loss\(output, target\) .* got str"),
    "a loss that gives a mean": (
        lambda d: fit((X, Y), loss=lambda o, t: (o**2).mean()), ValueError, r"loss_is='mean over examples'",
    ),
    "a step of its own kind": (lambda d: trainer(optimizer=optim.LBFGS(mlp().parameters())), ValueError, r"closure"),
    "a batch of nothing": (lambda d: trainer(batch_size=0), ValueError, r"batch_size of at least 1, got 0"),
    "a batch larger than the data": (lambda d: fit((X, Y), batch_size=2000), ValueError, r"write batch_size=1000"),
    "shards that are no power of two": (lambda d: trainer(shards=6), ValueError, r"power of two"),
    "negative workers": (lambda d: trainer(num_workers=-2), ValueError, r"num_workers .*-2"),
    "half a worker": (lambda d: trainer(num_workers=1.5), ValueError, r"num_workers .*got 1\.5"),
    "too many workers": (lambda d: trainer(num_workers=4096, shards=4096).open(), ResourcesError, r"4096 workers"),
    "a negative norm": (lambda d: trainer(clip_norm=-1), ValueError, r"clip_norm above 0 \(or None\), got -1"),
    "an unknown metric": (lambda d: trainer(metrics=("acuracy",)), ValueError, r"did you mean 'accuracy'\?"),
    "a metric by itself": (lambda d: trainer(metrics="f1"), TypeError, r"write metrics=\('f1',\)"),
    "a score that is a matrix": (lambda d: scored("confusion_matrix"), ValueError, r"no single score"),
    "a scheduler of another optimizer": (
        lambda d: trainer(scheduler=optim.lr_scheduler.StepLR(adamw(mlp()), 1)), ValueError, r"another optimizer",
    ),
    "data of two lengths": (lambda d: fit((X, Y[:-1])), ValueError, r"1000 and 999 examples"),
    "no targets": (lambda d: fit((X,)), ValueError, r"write \(x, y\)"),
    "an array alone": (lambda d: fit(X), TypeError, r"expected arrays \(x, y\)"),
    "texts": (lambda d: fit((X, np.full(1000, "a"))), TypeError, r"arrays of numbers, got <U1"),
    "no data": (lambda d: fit((X[:0], Y[:0])), ValueError, r"the data set is empty"),
    "a file that is not there": (lambda d: fit((d / "no.npy", Y)), FileNotFoundError, r"no\.npy"),
    "a label out of range": (lambda d: fit(labelled(9)), IndexError, r"class 9 is out of range: input has 5 classes"),
    "a negative label": (lambda d: fit(labelled(-1)), IndexError, r"class -1 is out of range.*ignore_index"),
    "labels that are floats": (
        lambda d: fit((X, Y.astype(np.float32) + 0.5)), ValueError, r"must be integers, got float32: write",
    ),
    "the wrong width": (lambda d: fit((X[:, :7], Y)), RuntimeError, r"expected input of shape .*12.* got \(\d+, 7\)"),
    "nan in the data": (lambda d: with_nan(), NonFiniteError, r"the loss of shard . of 8 is not finite.*set clip_norm"),
    "a model that cannot be sent": (lambda d: with_a_lock(), CannotSendError, r"model\.lock cannot be sent to workers"),
    "predicting with the wrong width": (lambda d: predicted(X[:, :7]), RuntimeError, r"got \(\d+, 7\)"),
    "predicting nothing": (lambda d: predicted(X[:0]), ValueError, r"the data set is empty"),
    "a directory that another run has": (locked, ResourcesError, r"is in use by another process: wait until it ends"),
    "a checkpoint of another model": (
        other_checkpoint, ValueError, r"is of another run: .*0\.weight was '\(40, 12\) float32', is '\(41, 12\)",
    ),
    "damaged checkpoints": (damaged_checkpoint, CheckpointError, r"none of the 1 checkpoints .* can be used"),
    "a parameter replaced under way": (lambda d: replaced_under_way(), RuntimeError, r"close it and make a new one"),
    "a recipe that is none": (lambda d: Recipe.from_json("[]"), ValueError, r"no recipe of a table"),
    "a target by a wrong number": (
        lambda d: (np.save(d / "t.npy", np.zeros((3, 2))), read_table(d / "t.npy", "2")), ValueError, r"0 to 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_raises_what_is_wrong(name, tmp_path):
    act, kind, told = LIBRARY[name]
    with pytest.raises(kind, match=f"(?s){told}"):
        act(tmp_path)


def test_there_are_enough_of_them():
    assert len(COMMANDS) > 40
    assert len(LIBRARY) > 40


def test_nan_in_the_data_is_placed(capsys):
    with pytest.raises(NonFiniteError) as error:
        with_nan()
    assert any("the input of example 17 of the data is nan at [3]" in note for note in error.value.__notes__)


def test_a_full_disk_is_said(tmp_path, monkeypatch, capsys):
    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("pargrad.parallel.checkpoints.write_synced", full)
    arguments = ["--num-workers", "0", "--epochs", "1", "--run-dir", str(tmp_path / "run")]
    assert main(["train", "mnist", *arguments]) != 0
    errors = capsys.readouterr().err
    assert "No space left on device" in errors
    assert "Traceback" not in errors
