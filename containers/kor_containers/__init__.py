"""The wiring: declarative containers over ``kor_core``.

>>> with create_container({"llm": {"default": {"model": "echo:any"}}}) as app:
...     app.kernel().model_selector.get_model().generate("Hello!")
'Echo: Hello!'
"""

from kor_containers.application import (
    ApplicationContainer,
    create_container,
    create_kernel,
    default_container,
)
from kor_containers.container import KorContainer
from kor_containers.reloading import reload
from kor_containers.tenants import TenantKernels
from kor_core.adapters.dynaconf import load_settings

__all__ = [
    "ApplicationContainer",
    "KorContainer",
    "TenantKernels",
    "create_container",
    "create_kernel",
    "default_container",
    "load_settings",
    "reload",
]
