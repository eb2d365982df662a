"""KOR SDK: what applications and plugins import. The wiring is in ``kor_containers``.

This package gives no names itself; import from the module that has the noun:

- :mod:`kor_core.kernel`: ``get_kernel``, ``use_kernel``, ``reset_kernel``, ``Kernel``.
- :mod:`kor_core.llm.base`: ``BaseLLMModel`` and ``BaseLLMProvider``, to bring a provider.
- :mod:`kor_core.plugin`: ``KorPlugin`` and ``KorContext``, to bring a plugin.
- :mod:`kor_core.errors`: every error, under ``KorError``.
- :mod:`kor_core.testing`: doubles and an upstream, for tests.

>>> from kor_core.kernel import get_kernel, use_kernel
>>> from kor_containers import create_kernel
>>> with create_kernel({"llm": {"default": {"model": "echo:any"}}}) as kernel, use_kernel(kernel):
...     get_kernel().model_selector.get_model().generate("Hello!")
'Echo: Hello!'
"""
