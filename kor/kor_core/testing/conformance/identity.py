"""Who a provider says it is, and what its models are called."""

from kor_core.llm.base import BaseLLMModel
from kor_core.llm.catalogue import Catalogue
from kor_core.testing.conformance.subject import Bench, Subject

__all__ = ["Identity"]


class Identity(Subject):
    """A provider has a name, and makes models of the names it is asked for."""

    def test_the_id_can_stand_in_references(self, bench: Bench) -> None:
        """It is a text without ``:`` and ``/``, and always the same."""
        name = bench.provider.id

        assert isinstance(name, str)
        assert name
        assert not set(name) & set(":/ \n")
        assert name == bench.provider.id
        assert Catalogue([bench.provider]).providers[name] is bench.provider

    def test_create_model_returns_a_model(self, bench: Bench) -> None:
        """It returns a ``BaseLLMModel``, and asks nobody for that."""
        model = bench.model()

        assert isinstance(model, BaseLLMModel)
        assert bench.behind is None or not bench.behind.accepted_connections

    def test_names_are_kept_verbatim(self, bench: Bench) -> None:
        """A model is called what it was asked for by."""
        for name in (bench.model_name, *self.more_names):
            assert name == bench.model(name).model_name

    def test_each_model_has_its_own_config(self, bench: Bench) -> None:
        """One provider serves many tenants: what one model gets, no other has."""
        first, second = bench.model(seed=1), bench.model(seed=2)

        assert (1, 2) == (first.config.get("seed"), second.config.get("seed"))

    def test_the_repr_of_a_model_names_it(self, bench: Bench) -> None:
        """Its repr is one line that holds its name."""
        shown = repr(bench.model())

        assert bench.model_name in shown
        assert "\n" not in shown
