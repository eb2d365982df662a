"""Tools that a model may call, made of plain typed functions."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeGuard, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError

from kor_core.errors import ToolError
from kor_core.redaction import is_table

__all__ = ["Tool", "Toolable", "as_tools"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as a model is told of it.

    Args:
        name: what the model calls it.
        description: what it does, for the model to read.
        parameters: its arguments, as a JSON Schema of an object.
        function: what :func:`kor_core.llm.toolbox.run_tools` calls, sync or async; without one
            the tool can be told to a model, and the caller answers its calls.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: _NO_PARAMETERS)
    function: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    _arguments: type[BaseModel] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, given: "Toolable") -> "Tool":
        """Return the tool for a function, or for a dict in OpenAI's shape.

        The function's name is the tool's, its docstring the description; its typed parameters
        make the JSON Schema, by pydantic.

        Raises:
            TypeError: the function has parameters that cannot be given by name or described
                in JSON, or it is neither a function nor a dict.

        >>> def add(a: int, b: int = 1) -> int:
        ...     "Add two numbers."
        ...     return a + b
        >>> Tool.of(add).description, sorted(Tool.of(add).parameters["properties"])
        ('Add two numbers.', ['a', 'b'])
        """
        if isinstance(given, Tool):
            return given
        if is_table(given):
            return _from_dict(given)
        if not callable(given):
            raise TypeError(f"A tool is a function, a Tool or a dict, not {type(given).__name__}.")
        return _from_function(given)

    def bound(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments as the function wants them: checked and converted.

        Raises:
            ToolError: they do not fit; its message is for the model to read.

        >>> def double(number: int) -> int:
        ...     return 2 * number
        >>> Tool.of(double).bound({"number": "21"})
        {'number': 21}
        """
        if self._arguments is None:
            return dict(arguments)
        try:
            checked = self._arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise ToolError(_told(self.name, error)) from None
        return {
            str(field.alias): getattr(checked, name)
            for name, field in type(checked).model_fields.items()
            if name in checked.model_fields_set
        }


Toolable = Tool | Callable[..., Any] | Mapping[str, Any]

_NO_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}


def as_tools(given: Iterable[Toolable]) -> tuple[Tool, ...]:
    """Return tools for functions, dicts and tools.

    Raises:
        TypeError: one of them makes no tool, or they are no list.
        ValueError: two have the same name.

    >>> [tool.name for tool in as_tools([len, Tool("search")])]
    Traceback (most recent call last):
    TypeError: The parameter 'obj' of len() cannot be given by name. ...
    """
    if given == ():  # most calls, and none of what follows
        return ()
    alone: Any = given
    if callable(alone) or isinstance(alone, Tool | Mapping):
        name = getattr(alone, "__name__", "…")  # pyright: ignore[reportUnknownArgumentType]  # users pass anything
        raise TypeError(f"tools is a list of functions: tools=[{name}].")
    tools = tuple(Tool.of(each) for each in given)
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two tools are named '{name}'. Give each a name of its own.")
    return tools


def _from_dict(given: Mapping[str, Any]) -> Tool:
    function: Any = given.get("function", given)
    name: Any = function.get("name") if is_table(function) else None
    if not isinstance(name, str):
        raise TypeError(
            "A tool's dict is {'type': 'function', 'function': {'name': …, 'parameters': …}}."
        )
    return Tool(name, function.get("description", ""), function.get("parameters", _NO_PARAMETERS))


def _from_function(function: Callable[..., Any]) -> Tool:
    owner: Callable[..., Any] = function
    while _is_partial(owner):
        owner = owner.func
    is_object = not (inspect.isroutine(owner) or inspect.isclass(owner))
    named: Any = type(owner) if is_object else owner
    typed: Any = type(owner).__call__ if is_object else owner
    if named.__name__ == "<lambda>":
        raise TypeError("A lambda has no name to call it by. Write a function, or Tool('name', …).")
    arguments = _arguments_of(function, typed, named.__name__)
    words = inspect.cleandoc(typed.__doc__ or named.__doc__ or "")
    return Tool(named.__name__, words, _schema_of(arguments), function, arguments)


def _schema_of(arguments: type[BaseModel]) -> dict[str, Any]:
    schema = arguments.model_json_schema()
    schema.pop("title", None)
    for each in schema.get("properties", {}).values():
        each.pop("title", None)
    return schema


def _is_partial(function: Callable[..., Any]) -> TypeGuard["partial[Any]"]:
    return isinstance(function, partial)


def _arguments_of(
    function: Callable[..., Any], typed: Callable[..., Any], name: str
) -> type[BaseModel]:
    """Make the pydantic model of a function's parameters."""
    try:
        hints = get_type_hints(typed, include_extras=True)
        fields: dict[str, Any] = {
            # Not under its own name, which may be one that pydantic's models use themselves.
            f"parameter_{index}": (hints.get(each.name, Any), _field(each, name))
            for index, each in enumerate(_parameters(function))
        }
        model: type[BaseModel] = create_model(name, __config__=_STRICT, **fields)
        model.model_json_schema()
    except (NameError, ValueError, PydanticUserError) as error:
        raise TypeError(
            f"{name}() makes no tool, because its parameters cannot be described in JSON: {error}"
        ) from error
    return model


_STRICT: Final = ConfigDict(extra="forbid", protected_namespaces=())


def _parameters(function: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """Yield the parameters, without those that a partial has set by name."""
    hidden: Mapping[str, Any] = function.keywords if _is_partial(function) else {}
    for each in inspect.signature(function).parameters.values():
        if each.name not in hidden:
            yield each


def _field(parameter: inspect.Parameter, function: str) -> Any:
    if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
        raise TypeError(
            f"The parameter '{parameter.name}' of {function}() cannot be given by name. "
            "A tool's parameters are named ones."
        )
    default = ... if parameter.default is parameter.empty else parameter.default
    return Field(default, alias=parameter.name)


def _told(name: str, error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)
    return f"The arguments of {name} do not fit: {problems}."
