"""Services by name, with the kernel's own protected."""

import pytest

from kor_core.errors import RegistrationError, ServiceNotFoundError
from kor_core.services import ServiceRegistry


@pytest.fixture
def services():
    return ServiceRegistry(fixed={"llm": "registry"}, shared={"clock": "plugin's"})


def test_a_service_is_found_among_the_kernels_own_the_registered_and_the_plugins(services):
    services.register_service("mine", 1)

    found = [services.get_service(name) for name in ("llm", "mine", "clock")]

    assert ["registry", 1, "plugin's"] == found
    assert ("clock", "llm", "mine") == services.names
    assert "<ServiceRegistry clock, llm, mine>" == repr(services)


def test_an_unknown_service_is_an_error_that_lists_the_known_ones(services):
    with pytest.raises(ServiceNotFoundError, match="Registered: clock, llm") as caught:
        services.get_service("lmm")

    assert "Did you mean 'llm'?" in str(caught.value)
    assert not services.has_service("lmm")
    assert services.has_service("llm")


@pytest.mark.parametrize(
    ("name", "cure"),
    [("", "not empty"), ("llm", "Override its binding"), ("clock", "replace=True")],
)
def test_an_unusable_name_is_refused_with_the_cure(services, name, cure):
    with pytest.raises(RegistrationError, match=cure):
        services.register_service(name, object())


def test_a_plugins_service_can_be_replaced_on_purpose(services):
    services.register_service("clock", "mine", replace=True)

    assert "mine" == services.get_service("clock")
