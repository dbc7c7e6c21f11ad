"""What the long proofs have found, each example once more."""

import pytest

from tests import proofs_broadcasting_torch as broadcasting
from tests import proofs_indexing_torch as indexing
from tests import proofs_reductions_torch as reductions
from tests.agreement_torch import Array
from tests.proofs_broadcasting_torch import Call
from tests.proofs_indexing_torch import Access, Part, Pick
from tests.proofs_reductions_torch import Reduction

ONE, TWO, WHOLE = Array((), "float64", 1), Array((2,), "float64", 2), Array((3,), "int64", 168)
ROW, PAIR = Pick((2,), 3, 0, "tensor"), Pick((1, 2), 4, 551, "array")
VALUE = Part(0, 0, False, "float64")
FOUND = [
    (broadcasting, Call("isub", (Array((), "uint8", 93), -1))),  # a number that the dtype does not hold
    (broadcasting, Call("pow", (Array((3,), "int64", 3), WHOLE))),  # integers to negative integer powers
    *((broadcasting, Call(name, (WHOLE, Array((), "int64", 129)))) for name in ("mod", "fmod", "floordiv")),  # by 0
    (broadcasting, Call("broadcast_tensors", (TWO, ONE))),
    (broadcasting, Call("clamp", (Array((3,), "float64", 162), TWO, TWO))),
    (broadcasting, Call("clamp", (Array((), "float64", 6), Array((3,), "float64", 2), Array((3,), "float64", 2)))),
    (broadcasting, Call("clamp", (Array((), "int64"), Array((), "int32"), Array((2,), "bool")))),
    (indexing, Access("get", Array((3, 4, 4, 2)), (0, slice(None), PAIR, slice(3, None)), (), None)),
    (indexing, Access("put", Array((3, 4, 4, 2)), (0, slice(None), PAIR, slice(0, 1)), (), VALUE)),
    (indexing, Access("get", Array((3, 3, 3)), (None, ROW, 0, Ellipsis, ROW), (), None)),
    (indexing, Access("get", Array((3, 4), "int64"), (0, slice(-4, None), True), (), None)),
    *((indexing, Access(name, Array((0, 3)), (), (), VALUE)) for name in ("put", "add", "put_both")),  # an empty view
    (indexing, Access("add", Array((), "complex128", 8), (True, Ellipsis), (), 2)),
    *(
        (reductions, Reduction(name, ONE, (), {"dim": dim}))  # a number has no such dim
        for name in ("cummax", "cumprod", "cumsum", "logcumsumexp", "median", "mode", "sort")
        for dim in (1, -2)
    ),
]


@pytest.mark.filterwarnings("ignore:Using `assume` outside")
@pytest.mark.parametrize(("of", "example"), FOUND, ids=[f"{of.__name__[13:]}-{one.name}" for of, one in FOUND])
def test_what_was_found_is_right_now(of, example):
    of.check(example)
