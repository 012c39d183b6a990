"""The tree of errors."""

import inspect
import re

from genqueue import errors


def test_tree_is_drawn_as_it_is():
    """The tree in the module's docstring names each error below its parent, and there are at most 13 leaves."""
    drawn, above = {}, ["GenqueueError"]
    for stem, name in re.findall(r"^([│ ]*)[├└]── (\w+)", errors.__doc__, re.MULTILINE):
        depth = len(stem) // 4 + 1
        above[depth:] = [name]
        drawn[name] = above[depth - 1]
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.GenqueueError)]
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in kinds if kind is not errors.GenqueueError}
    assert len(drawn.keys() - set(drawn.values())) <= 13
