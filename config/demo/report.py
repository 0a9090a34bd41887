"""What the demo tells people and programs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from config.demo.seed import EMAIL, Seeded
from enforcement.wording import PERIODS, amount_in_words, dollars

KEY_VARIABLE = "CUSTOMHOUSE_API_KEY"


@dataclass(slots=True)
class Report:
    """The facts of one run, as programs get them."""

    base_url: str
    gateway_key: str = field(repr=False)
    integration: str
    first_call: dict[str, Any] = field(default_factory=dict)
    refused_call: dict[str, Any] = field(default_factory=dict)
    race: dict[str, int] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def cost_lines(usage: Mapping[str, Any]) -> str:
    """The lines of a call's cost, one per class of tokens, and their sum."""
    lines = [
        f"  {line['unit']:<12} {line['quantity']:>5} tokens at ${line['rate']} per million = {line['nanos']} nano-USD\n"
        for line in usage["cost_lines"]
    ]
    return "".join(lines) + f"  cost         {dollars(usage['cost_nanos'])} (tokens {usage['quality']})\n"


def receipt_lines(receipt: Mapping[str, Any]) -> str:
    """A decision with the numbers it rests on."""
    lines = [f"  {receipt['result']}: {receipt['code']}\n"]
    lines += [f"  {reason['message']}\n" for reason in receipt["reasons"]]
    for limit in receipt["limits"]:
        metric = limit["metric"]
        numbers = ", ".join(
            f"{name} {amount_in_words(metric, limit[name])}"
            for name in ("amount", "spent", "held", "asked", "left")
            if limit.get(name) is not None
        )
        lines.append(f"  {limit['scope']} {metric} {PERIODS[limit['period']]}, version {limit['version']}: {numbers}\n")
    return "".join(lines)


def farewell(base_url: str, seeded: Seeded, *, is_over: bool) -> str:
    """Where to go on: the console, the key in other programs, the evaluator's own provider.

    `is_over`: the server ends with the story.
    """
    over = (
        "\n  The server ends here; `make demo` without ONCE starts it again, with the same data.\n" if is_over else ""
    )
    proxy = f"{base_url}/proxy/{seeded.integration.name}"
    return f"""
4. Go on
{over}
  Console   {base_url}/
  Sign in   {EMAIL} with {seeded.password}

The same key in your programs, OpenAI's and Anthropic's wire alike:

  export {KEY_VARIABLE}={seeded.key_text}

  curl {proxy}/v1/chat/completions \\
    -H "Authorization: Bearer ${KEY_VARIABLE}" -H 'Content-Type: application/json' \\
    -d '{{"model": "sandbox-small", "messages": [{{"role": "user", "content": "Hello"}}]}}'

  openai.OpenAI(base_url="{proxy}/v1", api_key=os.environ["{KEY_VARIABLE}"]) \\
    .chat.completions.create(model="sandbox-small", messages=[{{"role": "user", "content": "Hello"}}])

  anthropic.Anthropic(base_url="{proxy}", api_key=os.environ["{KEY_VARIABLE}"]) \\
    .messages.create(model="sandbox-small", max_tokens=200, messages=[{{"role": "user", "content": "Hello"}}])

  # Claude Code
  export ANTHROPIC_BASE_URL={proxy} ANTHROPIC_AUTH_TOKEN=${KEY_VARIABLE} ANTHROPIC_API_KEY=
  ANTHROPIC_MODEL=sandbox-large claude

  # Codex CLI: in ~/.codex/config.toml
  model = "sandbox-large"
  model_provider = "customhouse"
  [model_providers.customhouse]
  name = "Customhouse"
  base_url = "{proxy}/v1"
  env_key = "{KEY_VARIABLE}"
  wire_api = "responses"

With your own provider key, in the file `key` (then only the base URL of your program changes):

  .venv/bin/python manage.py integration create --tenant demo --name prod-openai --type openai --key-stdin < key
  .venv/bin/python manage.py limit set --tenant demo --scope integration --integration prod-openai \\
    --metric cost --period month --amount 20
  .venv/bin/python manage.py key create --tenant demo --name my-program --integrations prod-openai
  export OPENAI_BASE_URL={base_url}/proxy/prod-openai/v1 OPENAI_API_KEY=<the key it shows>
"""
