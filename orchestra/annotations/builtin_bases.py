"""A table of the generic bases of built-in classes, as in typeshed, since they do not declare them.

`class Names(list[str])` has its base in `__orig_bases__`, but nothing in `list` says that a
`list[T]` is a `MutableSequence[T]`.
"""

from __future__ import annotations

import collections
from collections import abc
from types import GenericAlias, MappingProxyType
from typing import TypeVar

_K = TypeVar("_K")
_S = TypeVar("_S")
_T = TypeVar("_T")
_V = TypeVar("_V")


def generic(cls: type, *given: object) -> object:
    """`cls[given]`, where a type checker does not have to understand the arguments."""
    return GenericAlias(cls, given)


BASES: abc.Mapping[object, tuple[tuple[object, ...], tuple[object, ...]]] = {
    str: ((), (generic(abc.Sequence, str),)),
    bytes: ((), (generic(abc.Sequence, int),)),
    bytearray: ((), (generic(abc.MutableSequence, int),)),
    memoryview: ((), (generic(abc.Sequence, int),)),
    range: ((), (generic(abc.Sequence, int),)),
    list: ((_T,), (generic(abc.MutableSequence, _T),)),
    set: ((_T,), (generic(abc.MutableSet, _T),)),
    frozenset: ((_T,), (generic(abc.Set, _T),)),
    dict: ((_K, _V), (generic(abc.MutableMapping, _K, _V),)),
    collections.deque: ((_T,), (generic(abc.MutableSequence, _T),)),
    collections.defaultdict: ((_K, _V), (generic(dict, _K, _V),)),
    collections.OrderedDict: ((_K, _V), (generic(dict, _K, _V),)),
    collections.Counter: ((_K,), (generic(dict, _K, int),)),
    collections.ChainMap: ((_K, _V), (generic(abc.MutableMapping, _K, _V),)),
    MappingProxyType: ((_K, _V), (generic(abc.Mapping, _K, _V),)),
    abc.MutableMapping: ((_K, _V), (generic(abc.Mapping, _K, _V),)),
    abc.Mapping: ((_K, _V), (generic(abc.Collection, _K),)),
    abc.MutableSequence: ((_T,), (generic(abc.Sequence, _T),)),
    abc.Sequence: ((_T,), (generic(abc.Reversible, _T), generic(abc.Collection, _T))),
    abc.MutableSet: ((_T,), (generic(abc.Set, _T),)),
    abc.Set: ((_T,), (generic(abc.Collection, _T),)),
    abc.KeysView: ((_K,), (generic(abc.Set, _K),)),
    abc.ItemsView: ((_K, _V), (generic(abc.Set, generic(tuple, _K, _V)),)),
    abc.ValuesView: ((_V,), (generic(abc.Collection, _V),)),
    abc.Collection: ((_T,), (generic(abc.Iterable, _T), generic(abc.Container, _T))),
    abc.Reversible: ((_T,), (generic(abc.Iterable, _T),)),
    abc.Generator: ((_T, _S, _V), (generic(abc.Iterator, _T),)),
    abc.Iterator: ((_T,), (generic(abc.Iterable, _T),)),
    abc.AsyncGenerator: ((_T, _S), (generic(abc.AsyncIterator, _T),)),
    abc.AsyncIterator: ((_T,), (generic(abc.AsyncIterable, _T),)),
    abc.Coroutine: ((_T, _S, _V), (generic(abc.Awaitable, _V),)),
}
"""Class → its type parameters, and its bases in terms of these parameters."""
