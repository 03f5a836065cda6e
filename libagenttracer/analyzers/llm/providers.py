"""Who was asked: the provider's name (as OpenTelemetry's GenAI conventions have it) and address."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["provider_name", "server_of"]

# hosts, and domains whose hosts they are
_HOSTS = {
    "api.openai.com": "openai",
    "chatgpt.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "cloudcode-pa.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "openai.azure.com": "azure.ai.openai",
    "cognitiveservices.azure.com": "azure.ai.openai",
    "models.ai.azure.com": "azure.ai.inference",
    "models.inference.ai.azure.com": "azure.ai.inference",
    "models.github.ai": "azure.ai.inference",
    "mistral.ai": "mistral_ai",
    "cohere.com": "cohere",
    "cohere.ai": "cohere",
    "groq.com": "groq",
    "deepseek.com": "deepseek",
    "x.ai": "x_ai",
    "perplexity.ai": "perplexity",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "ollama.com": "ollama",
    "openrouter.ai": "openrouter",
}
_REGIONAL_VERTEX = re.compile(r"[a-z0-9-]+-aiplatform\.googleapis\.com")
_BEDROCK = re.compile(r"([a-z0-9-]+\.)?bedrock[a-z-]*\.([a-z0-9-]+\.)*(amazonaws\.com(\.cn)?|api\.aws)")
_FOUNDRY = ".services.ai.azure.com"  # whose provider stands in the path
_OLLAMA_PORT = 11434
_TLS_PORT = 443
# headers that a provider's own servers add to answers
_AZURE_HEADERS = ("apim-request-id", "x-ms-region", "azureml-model-session")
_OPENAI_HEADERS = ("openai-organization", "openai-processing-ms", "openai-version")


def server_of(authority: str, *, tls: bool) -> tuple[str | None, int | None]:
    """Host (small letters, without brackets) and port of an authority (RFC 3986, 3.2); None where unknown.

    Args:
        tls: the connection is encrypted: then the port is 443 if none is named.
    """
    host, colon, port = authority.rpartition("@")[2].rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or (host.count(":") and not host.endswith("]")):
        host, port = authority.rpartition("@")[2].removesuffix(":"), ""
    host = host.removeprefix("[").removesuffix("]").rstrip(".").lower()
    if not port:
        return host or None, _TLS_PORT if tls and host else None
    return host or None, int(port) if len(port) <= 5 and int(port) < 65536 else None


def provider_name(host: str | None, port: int | None, path: str, form: str, headers: Iterable[str]) -> str:
    """The provider's name: by its host, else by the form of the exchange, else by its answer's headers.

    Args:
        path: of the request.
        form: what the form of the exchange says, "unknown" if many have this form.
        headers: names of the answer's headers, small letters.

    Returns:
        "unknown" if nothing says who it is.
    """
    return (
        _by_host(host or "", path, form)
        or ("ollama" if port == _OLLAMA_PORT else None)
        or (form if form != "unknown" else None)
        or _by_headers(path, set(headers))
    )


def _by_host(host: str, path: str, form: str) -> str | None:
    parts = host.split(".")
    for start in range(len(parts) - 1):
        name = _HOSTS.get(".".join(parts[start:]))
        if name is not None:
            return name
    if _REGIONAL_VERTEX.fullmatch(host):
        return "gcp.vertex_ai"
    if _BEDROCK.fullmatch(host):
        return "aws.bedrock"
    if host.endswith(_FOUNDRY) and form == "unknown":
        return "azure.ai.openai" if path.startswith("/openai/") else "azure.ai.inference"
    return None


def _by_headers(path: str, headers: set[str]) -> str:
    if "/openai/deployments/" in path or not headers.isdisjoint(_AZURE_HEADERS):
        return "azure.ai.openai"
    return "unknown" if headers.isdisjoint(_OPENAI_HEADERS) else "openai"
