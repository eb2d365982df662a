"""Texts on their way to vectors: in batches, with their order kept."""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add

from kor_core.errors import ProviderError
from kor_core.llm.response import Embeddings

__all__ = ["as_texts", "in_batches", "joined", "matching"]


def as_texts(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the texts for whatever was given as such.

    Raises:
        TypeError: it is neither a text nor a list of texts.

    >>> as_texts("one"), as_texts(["one", "two"])
    (('one',), ('one', 'two'))
    """
    texts = (given,) if isinstance(given, str) else tuple(given)
    for text in texts:
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass anything
            raise TypeError(f"Texts are embedded, not {type(text).__name__}.")
    return texts


def in_batches(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """Give the texts in batches of at most that many.

    >>> [list(batch) for batch in in_batches(["a", "b", "c"], 2)]
    [['a', 'b'], ['c']]
    """
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


def matching(embeddings: Embeddings, texts: Sequence[str], model_name: str) -> Embeddings:
    """Return the embeddings, if there is one for each text.

    Raises:
        ProviderError: there is not.
    """
    found, wanted = len(embeddings.vectors), len(texts)
    if found == wanted:
        return embeddings
    raise ProviderError(
        f"It gave {found} vectors for {wanted} texts. Ask again; a model that makes no "
        "embeddings cannot be used here.",
        model=model_name,
        request_id=embeddings.request_id,
    )


def joined(batches: Sequence[Embeddings]) -> Embeddings:
    """Return the embeddings of all batches as one."""
    if not batches:
        return Embeddings(())
    last = batches[-1]
    usages = [each.usage for each in batches]
    costs = [each.cost for each in batches]
    known = [usage for usage in usages if usage is not None]
    paid = [cost for cost in costs if cost is not None]
    return Embeddings(
        tuple(vector for each in batches for vector in each.vectors),
        usage=reduce(add, known) if len(known) == len(usages) else None,
        cost=sum(paid[1:], paid[0]) if len(paid) == len(costs) else None,
        model_id=last.model_id,
        request_id=last.request_id,
        attempts=tuple(attempt for each in batches for attempt in each.attempts),
    )
