"""The network: one transport, which the clients of every provider and tenant share."""

from dependency_injector.providers import Dependency

from kor_containers.container import KorContainer
from kor_containers.providers import Singleton
from kor_core.adapters.network import Transport
from kor_core.settings import Settings

__all__ = ["NetworkContainer"]


def _transport(settings: Settings) -> Transport:
    return Transport(settings.network)


class NetworkContainer(KorContainer):
    """Holds the transport that the operator's ``[network]`` describes."""

    operator = Dependency(instance_of=Settings)
    transport = Singleton(_transport, operator)
