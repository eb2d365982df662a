"""All the wire formats, in the order in which they are tried."""

from kor_core.testing.wire import anthropic, gemini, ollama
from kor_core.testing.wire.base import WireFormat
from kor_core.testing.wire.openai_chat import ChatCompletions
from kor_core.testing.wire.openai_embeddings import Embeddings
from kor_core.testing.wire.openai_models import Models, NoEndpoint
from kor_core.testing.wire.openai_responses import Responses

__all__ = ["every_format"]


def every_format(models: tuple[str, ...]) -> tuple[WireFormat, ...]:
    """Return one of each; the last serves whatever no other does.

    Args:
        models: what the list of models names.
    """
    return (
        ChatCompletions(),
        Responses(),
        Embeddings(),
        Models(models),
        anthropic.Messages(),
        gemini.GenerateContent(),
        gemini.EmbedContent(),
        gemini.BatchEmbedContents(),
        ollama.Chat(),
        ollama.Generate(),
        ollama.Embed(),
        ollama.Show(),
        NoEndpoint(),
    )
