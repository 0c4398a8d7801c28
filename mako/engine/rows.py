"""Typed rows in compiled procedures: views of memory whose fields are loads and stores.

    row = tx.read(STOCK, (w, i))     RowType(layout, writable=False): assigning is an error
    row.s_quantity                   a load, sign- or zero-extended to int64
    row.s_dist                       CharsType: address and length; copies, slices, compares
                                     (without the zero bytes that pad it, as `Row.unpack`)
    row.counts[3]                    NumbersType: an element

A view is its address, and for chars its length and whether it may be padded: nothing is allocated,
nothing counted.
`mako.engine.views` has the same classes for interpreted procedures.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_cast, lower_getattr_generic, lower_setattr_generic
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import intrinsic, models, register_model

from mako.engine.atomics import ld1, memcmp, memmove, memset, st1
from mako.engine.extending import overload
from mako.engine.jit import compiled
from mako.row import Field, Row, digest

_I64 = ir.IntType(64)
#: What an attempt to change a version that others see is told.
READ_ONLY = "belongs to a row that was read; use tx.write to get a row that can be changed"
_ELEMENTS: dict[str, tuple[Any, bool]] = {
    "i1": (ir.IntType(8), True),
    "i2": (ir.IntType(16), True),
    "i4": (ir.IntType(32), True),
    "i8": (_I64, True),
    "u1": (ir.IntType(8), False),
    "u2": (ir.IntType(16), False),
    "u4": (ir.IntType(32), False),
    "f8": (ir.DoubleType(), True),
}


class RowType(types.Type):
    """A view of one row; its model is the address of the first byte."""

    def __init__(self, layout: Row, *, writable: bool) -> None:
        self.layout = layout
        self.writable = writable
        self.by_name = {field.name: field for field in layout.fields}
        shape = digest([(field.name, field.code, field.offset) for field in layout.fields])
        super().__init__(name=f"Row({shape}, {'rw' if writable else 'r'})")


class CharsType(types.Type):
    """A view of bytes: address and length. Parts of it can be assigned to if it is writable."""

    def __init__(self, *, writable: bool) -> None:
        self.writable = writable
        super().__init__(name=f"Chars({'rw' if writable else 'r'})")

    def can_convert_to(self, typingctx: Any, other: Any) -> Any:
        """What can be changed can be read, too: both may meet in one variable."""
        return Conversion.safe if other == chars_type else None


class NumbersType(types.Type):
    """A view of an array field; its model is the address."""

    def __init__(self, code: str, count: int, *, writable: bool) -> None:
        self.code = code
        self.count = count
        self.writable = writable
        super().__init__(name=f"Numbers({code}, {count}, {'rw' if writable else 'r'})")


chars_type = CharsType(writable=False)
writable_chars_type = CharsType(writable=True)


@register_model(RowType)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _I64)


@register_model(NumbersType)
class _NumbersModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _I64)


@register_model(CharsType)
class _CharsModel(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        members = [(name, types.int64) for name in ("address", "size", "padded")]
        super().__init__(manager, kind, members)


def field_type(field: Field, *, writable: bool) -> Any:
    """The numba type that reading `field` of a row yields."""
    if field.is_chars:
        return writable_chars_type if writable else chars_type
    if field.is_array:
        return NumbersType(field.element, field.count, writable=writable)
    return types.float64 if field.element == "f8" else types.int64


@infer_getattr
class _RowAttributes(AttributeTemplate):
    key = RowType

    def generic_resolve(self, row: RowType, name: str) -> Any:
        field = row.by_name.get(name)
        return None if field is None else field_type(field, writable=row.writable)


def _at(builder: Any, address: Any, offset: int) -> Any:
    return builder.add(address, _I64(offset))


def _load_element(builder: Any, address: Any, code: str) -> Any:
    element, signed = _ELEMENTS[code]
    pointer = builder.inttoptr(address, element.as_pointer())
    value = builder.load(pointer, align=1, typ=element)
    if code == "f8" or code == "i8":
        return value
    return builder.sext(value, _I64) if signed else builder.zext(value, _I64)


def _store_element(
    context: Any, builder: Any, address: Any, code: str, value: Any, ty: Any
) -> None:
    element, _ = _ELEMENTS[code]
    target = types.float64 if code == "f8" else types.int64
    value = context.cast(builder, value, ty, target)
    if code not in ("f8", "i8"):
        value = builder.trunc(value, element)
    builder.store(value, builder.inttoptr(address, element.as_pointer()), align=1)


@lower_getattr_generic(RowType)
def _row_getattr(context: Any, builder: Any, ty: RowType, value: Any, name: str) -> Any:
    field = ty.by_name[name]
    address = _at(builder, value, field.offset)
    if field.is_chars:
        chars = cgutils.create_struct_proxy(field_type(field, writable=ty.writable))(
            context, builder
        )
        chars.address = address
        chars.size = _I64(field.count)
        chars.padded = _I64(1)
        return chars._getvalue()
    if field.is_array:
        return address
    return _load_element(builder, address, field.element)


@lower_setattr_generic(RowType)
def _row_setattr(context: Any, builder: Any, sig: Any, args: Any, name: str) -> Any:
    row_type, value_type = sig.args
    row, value = args
    field = row_type.by_name[name]
    if not row_type.writable:
        raise TypeError(f"field {name!r} {READ_ONLY}")
    address = _at(builder, row, field.offset)
    if field.is_chars:
        source, size, _ = _chars_source(context, builder, value, value_type)
        function = context.typing_context.resolve_value_type(copy_chars)
        signature = types.void(types.int64, types.int64, types.int64, types.int64)
        signature = function.get_call_type(context.typing_context, signature.args, {})
        call = context.get_function(function, signature)
        call(builder, [address, _I64(field.count), source, size])
        return context.get_dummy_value()
    if field.is_array:
        raise TypeError(f"array field {name!r}: assign its elements")
    _store_element(context, builder, address, field.element, value, value_type)
    return context.get_dummy_value()


def _chars_source(context: Any, builder: Any, value: Any, ty: Any) -> tuple[Any, Any, Any]:
    """Address and length of something that can be assigned to a chars field, and whether zero bytes
    at its end are padding."""
    if isinstance(ty, CharsType):
        chars = cgutils.create_struct_proxy(chars_type)(context, builder, value=value)
        return chars.address, chars.size, chars.padded
    if isinstance(ty, types.Bytes):
        array = context.make_array(ty)(context, builder, value=value)
        return builder.ptrtoint(array.data, _I64), array.nitems, _I64(0)
    raise TypeError(f"cannot assign {ty} to a chars field; use another chars field or b'...'")


@lower_cast(types.Bytes, CharsType)
def _bytes_to_chars(context: Any, builder: Any, given: Any, wanted: Any, value: Any) -> Any:
    """b"literal" where chars are wanted: a view of the constant."""
    chars = cgutils.create_struct_proxy(chars_type)(context, builder)
    chars.address, chars.size, chars.padded = _chars_source(context, builder, value, given)
    return chars._getvalue()


@compiled
def copy_chars(target: int, target_size: int, source: int, source_size: int) -> None:
    """Copy, cut at the target's length or padded with zero bytes up to it."""
    size = min(target_size, source_size)
    memmove(target, source, size)  # A row may be shifted within itself.
    memset(target + size, 0, target_size - size)


@compiled
def _without_padding(address: int, size: int) -> int:
    """The length of chars of `size` bytes without the zero bytes at their end."""
    while size > 0 and ld1(address + size - 1) == 0:
        size -= 1
    return size


@compiled
def compare_chars(a: int, a_size: int, a_padded: int, b: int, b_size: int, b_padded: int) -> int:
    """Below 0, 0 or above it, as Python compares bytes; padding is none of them."""
    order = memcmp(a, b, min(a_size, b_size))
    if order != 0:  # Also if one of the bytes is padding: the other one is not then, and above it.
        return order
    a_bytes = _without_padding(a, a_size) if a_padded != 0 else a_size
    b_bytes = _without_padding(b, b_size) if b_padded != 0 else b_size
    return a_bytes - b_bytes


@lower_cast(CharsType, CharsType)
def _chars_to_chars(context: Any, builder: Any, given: Any, wanted: Any, value: Any) -> Any:
    return value


@intrinsic
def chars_of(typingctx: Any, address: Any, size: Any) -> Any:
    """Chars that cannot be changed, and are not padded."""
    signature = chars_type(types.int64, types.int64)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        chars = cgutils.create_struct_proxy(chars_type)(context, builder)
        chars.address, chars.size = args
        chars.padded = _I64(0)
        return chars._getvalue()

    return signature, generate


@intrinsic
def _part_of(typingctx: Any, whole: Any, address: Any, size: Any) -> Any:
    """Chars that can be changed as far as `whole` can, and are padded if it is."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        chars = cgutils.create_struct_proxy(whole)(context, builder, value=args[0])
        chars.address, chars.size = args[1:]
        return chars._getvalue()

    return whole(whole, types.int64, types.int64), generate


@intrinsic
def _require_writable(typingctx: Any, view: Any) -> Any:
    """Refuse, at compile time, to change what others see."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not view.writable:
            raise TypeError(f"the field {READ_ONLY}")
        return context.get_dummy_value()

    return types.void(view), generate


def _part(index: int, name: str) -> Any:
    def typing(typingctx: Any, chars: Any) -> Any:
        if not isinstance(chars, CharsType | types.Bytes):
            return None

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _chars_source(context, builder, args[0], sig.args[0])[index]

        return types.int64(chars), generate

    typing.__name__ = typing.__qualname__ = name
    return intrinsic(typing)


address_of = _part(0, "address_of")
size_of = _part(1, "size_of")
_padded = _part(2, "_padded")


@overload(len)
def _chars_len(chars: Any) -> Any:
    if isinstance(chars, CharsType):
        return lambda chars: size_of(chars)
    if isinstance(chars, NumbersType):
        count = chars.count
        return lambda chars: count
    return None


class IndexOutside(Exception):
    """A chars or array index outside the field."""


def _register_indexing() -> None:
    import operator

    @overload(operator.getitem)
    def chars_getitem(chars: Any, index: Any) -> Any:
        if not isinstance(chars, CharsType):
            return None
        if isinstance(index, types.Integer):

            def at(chars: Any, index: Any) -> Any:
                if index < 0 or index >= size_of(chars):
                    raise IndexOutside
                return ld1(address_of(chars) + index)

            return at
        if isinstance(index, types.SliceType):

            def part(chars: Any, index: Any) -> Any:
                size = size_of(chars)
                start = min(max(index.start, 0), size)
                stop = min(max(index.stop, start), size)
                return _part_of(chars, address_of(chars) + start, stop - start)

            return part
        return None

    @overload(operator.setitem)
    def chars_setitem(chars: Any, index: Any, value: Any) -> Any:
        if isinstance(chars, CharsType) and isinstance(index, types.SliceType):

            def put_part(chars: Any, index: Any, value: Any) -> None:
                _require_writable(chars)
                size = size_of(chars)
                start = min(max(index.start, 0), size)
                stop = min(max(index.stop, start), size)
                copy_chars(
                    address_of(chars) + start, stop - start, address_of(value), size_of(value)
                )

            return put_part
        if isinstance(chars, CharsType) and isinstance(index, types.Integer):

            def put(chars: Any, index: Any, value: Any) -> None:
                _require_writable(chars)
                if index < 0 or index >= size_of(chars):
                    raise IndexOutside
                st1(address_of(chars) + index, value)

            return put
        return None

    def comparison(operation: Any) -> None:
        @overload(operation)
        def compare(a: Any, b: Any) -> Any:
            sides = (CharsType, types.Bytes)
            if not isinstance(a, sides) or not isinstance(b, sides):
                return None
            if not isinstance(a, CharsType) and not isinstance(b, CharsType):
                return None

            def impl(a: Any, b: Any) -> bool:
                order = compare_chars(
                    address_of(a), size_of(a), _padded(a), address_of(b), size_of(b), _padded(b)
                )
                return operation(order, 0)

            return impl

    for operation in (
        operator.eq,
        operator.ne,
        operator.lt,
        operator.le,
        operator.gt,
        operator.ge,
    ):
        comparison(operation)

    @overload(operator.getitem)
    def numbers_getitem(numbers: Any, index: Any) -> Any:
        if not isinstance(numbers, NumbersType) or not isinstance(index, types.Integer):
            return None
        count = numbers.count

        def at(numbers: Any, index: Any) -> Any:
            if index < 0 or index >= count:
                raise IndexOutside
            return load_number(numbers, index)

        return at

    @overload(operator.setitem)
    def numbers_setitem(numbers: Any, index: Any, value: Any) -> Any:
        if not isinstance(numbers, NumbersType) or not isinstance(index, types.Integer):
            return None
        count = numbers.count

        def put(numbers: Any, index: Any, value: Any) -> None:
            _require_writable(numbers)
            if index < 0 or index >= count:
                raise IndexOutside
            store_number(numbers, index, value)

        return put


@intrinsic
def load_number(typingctx: Any, numbers: Any, index: Any) -> Any:
    code = numbers.code
    width = Row({"x": code}).fields[0].size
    result = types.float64 if code == "f8" else types.int64

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = builder.add(args[0], builder.mul(args[1], _I64(width)))
        return _load_element(builder, address, code)

    return result(numbers, types.int64), generate


@intrinsic
def store_number(typingctx: Any, numbers: Any, index: Any, value: Any) -> Any:
    code = numbers.code
    width = Row({"x": code}).fields[0].size

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = builder.add(args[0], builder.mul(args[1], _I64(width)))
        _store_element(context, builder, address, code, args[2], sig.args[2])
        return context.get_dummy_value()

    return types.void(numbers, types.int64, value), generate


def view_of(layout: Row, *, writable: bool) -> Any:
    """An intrinsic that turns an address into a view of a row."""
    row_type = RowType(layout, writable=writable)

    @intrinsic
    def view(typingctx: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return args[0]

        return row_type(types.int64), generate

    return view


_register_indexing()
__all__ = ["CharsType", "NumbersType", "RowType", "chars_type", "field_type", "view_of"]
