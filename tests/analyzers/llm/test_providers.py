"""Whose model it is, by host, form, and headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.analyzers.llm.providers import provider_name, server_of


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("my-resource.openai.azure.com", "azure.ai.openai"),
        ("api.mistral.ai", "mistral_ai"),
        ("api.groq.com", "groq"),
        ("api.deepseek.com", "deepseek"),
        ("api.x.ai", "x_ai"),
        ("api.perplexity.ai", "perplexity"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("europe-west4-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
        ("bedrock-runtime-fips.us-east-1.amazonaws.com", "aws.bedrock"),
        ("vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", "aws.bedrock"),
        ("api.anthropic.com", "anthropic"),
        ("api.cohere.com", "cohere"),
        ("us-south.ml.cloud.ibm.com", "ibm.watsonx.ai"),
        ("openrouter.ai", "openrouter"),
        ("x.services.ai.azure.com", "azure.ai.inference"),
        ("notopenai.azure.com", "unknown"),
        ("api.openai.com.example.com", "unknown"),
        ("netflix.ai", "unknown"),
        ("ai", "unknown"),
        ("bedrock-runtime.us-east-1.amazonaws.com.example.com", "unknown"),
        (None, "unknown"),
    ],
)
def test_by_host(host: str | None, name: str) -> None:
    assert provider_name(host, 443, "/v1/chat/completions", "unknown", []) == name


def test_what_counts_more() -> None:
    path = "/openai/deployments/gpt/chat/completions"
    assert provider_name("localhost", 11434, "/v1/messages", "anthropic", []) == "ollama"
    assert provider_name("localhost", 8000, "/v1/messages", "anthropic", []) == "anthropic"
    assert provider_name("api.anthropic.com", 443, "/v1/chat/completions", "unknown", []) == "anthropic"
    assert provider_name("gateway", 443, path, "unknown", []) == "azure.ai.openai"
    assert provider_name("gateway", 443, "/v1/x", "unknown", ["apim-request-id"]) == "azure.ai.openai"
    assert provider_name("gateway", 443, "/v1/x", "unknown", ["openai-version"]) == "openai"
    assert provider_name("gateway", 443, "/v1/x", "unknown", ["x-request-id"]) == "unknown"
    foundry = "x.services.ai.azure.com"
    assert provider_name(foundry, 443, "/openai/v1/responses", "unknown", []) == "azure.ai.openai"
    assert provider_name(foundry, 443, "/anthropic/v1/messages", "anthropic", []) == "anthropic"


@pytest.mark.parametrize(
    ("authority", "server"),
    [
        ("api.openai.com", ("api.openai.com", 443)),
        ("API.OpenAI.com.:8443", ("api.openai.com", 8443)),
        ("user@host:1", ("host", 1)),
        ("host:", ("host", 443)),
        ("[::1]:8080", ("::1", 8080)),
        ("[::1]", ("::1", 443)),
        ("::1", ("::1", 443)),
        ("host:99999", ("host", None)),
        ("host:123456789", ("host", None)),
        ("", (None, None)),
    ],
)
def test_addresses(authority: str, server: tuple[str | None, int | None]) -> None:
    assert server_of(authority, tls=True) == server


def test_no_port_is_known_without_tls() -> None:
    assert server_of("localhost", tls=False) == ("localhost", None)


@given(st.text(max_size=30), st.text(max_size=10), st.lists(st.text(max_size=5), max_size=3))
def test_any_text(authority: str, path: str, headers: list[str]) -> None:
    host, port = server_of(authority, tls=True)
    assert port is None or 0 <= port < 65536
    assert provider_name(host, port, path, "unknown", headers)
