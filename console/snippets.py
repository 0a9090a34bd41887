"""A first call, ready to be copied."""

from collections.abc import Sequence

from integrations.models import Integration, Status
from integrations.providers import ProviderType

MODELS = {
    ProviderType.OPENAI: "gpt-5-mini",
    ProviderType.ANTHROPIC: "claude-haiku-4-5",
    ProviderType.SANDBOX: "sandbox-small",
}


def first_call(root: str, integrations: Sequence[Integration]) -> str | None:
    """A curl command through the first enabled integration; `root` ends with a slash."""
    chosen = next((one for one in integrations if one.status == Status.ENABLED), None)
    if chosen is None:
        return None
    provider = ProviderType(chosen.provider_type)
    model = chosen.default_model or MODELS.get(provider, "your-model")
    path, extra = "v1/chat/completions", ""
    if provider == ProviderType.ANTHROPIC:
        path, extra = "v1/messages", '  -H "anthropic-version: 2023-06-01" \\\n'
    return (
        f"curl {root}proxy/{chosen.name}/{path} \\\n"
        '  -H "Authorization: Bearer $CUSTOMHOUSE_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"{extra}"
        f'  -d \'{{"model": "{model}", "max_tokens": 100, "messages": [{{"role": "user", "content": "Hello"}}]}}\''
    )
