"""The settings with which an editor asks the server, to be put into the editor's own configuration."""

import json
from collections.abc import Callable

# For clients that word prompts themselves. The server reads this form whatever the base is, so it is always named.
FIM_TEMPLATE = "<|fim_prefix|>{{{prefix}}}<|fim_suffix|>{{{suffix}}}<|fim_middle|>"
MAX_TOKENS = 64


def _llama_vim(url: str, model: str) -> str:
    return f"""\
" ~/.vimrc or ~/.config/nvim/init.vim, before the plugin ggml-org/llama.vim is loaded
let g:llama_config = {{
    \\ 'endpoint_fim': '{url}/infill',
    \\ 'model_fim': '{model}',
    \\ 'n_predict': {MAX_TOKENS},
    \\ }}
"""


def _minuet(url: str, model: str) -> str:
    return f"""\
-- ~/.config/nvim/init.lua, with the plugin milanglacier/minuet-ai.nvim
require('minuet').setup {{
  provider = 'openai_fim_compatible',
  n_completions = 1,
  context_window = 4000,
  virtualtext = {{ auto_trigger_ft = {{ '*' }}, keymap = {{ accept = '<A-A>', next = '<A-]>' }} }},
  provider_options = {{
    openai_fim_compatible = {{
      name = 'BlockLM',
      api_key = 'TERM',  -- any variable that is set: the server has no password
      end_point = '{url}/v1/completions',
      model = '{model}',
      optional = {{ max_tokens = {MAX_TOKENS} }},
    }},
  }},
}}
"""


def _llama_vscode(url: str, _: str) -> str:
    settings = {"llama-vscode.endpoint": url, "llama-vscode.n_predict": MAX_TOKENS}
    return f"// settings.json of VS Code, with the extension ggml-org.llama-vscode\n{json.dumps(settings, indent=2)}\n"


def _continue(url: str, model: str) -> str:
    return f"""\
# ~/.continue/config.yaml, with the extension Continue in VS Code or JetBrains
name: local
version: 1.0.0
schema: v1
models:
  - name: BlockLM
    provider: openai
    model: "{model}"
    apiBase: {url}/v1
    apiKey: none
    roles: [autocomplete]
    defaultCompletionOptions:
      maxTokens: {MAX_TOKENS}
    promptTemplates:
      autocomplete: "{FIM_TEMPLATE}"
"""


def _zed(url: str, model: str) -> str:
    api = {
        "api_url": f"{url}/v1/completions",
        "model": model,
        "prompt_format": "qwen",
        "max_output_tokens": MAX_TOKENS,
    }
    settings = {"edit_predictions": {"provider": "open_ai_compatible_api", "open_ai_compatible_api": api}}
    return (
        f'// settings.json of Zed; "sweep" as `prompt_format` asks for next edits\n{json.dumps(settings, indent=2)}\n'
    )


EDITORS: dict[str, Callable[[str, str], str]] = {
    "llama.vim": _llama_vim,
    "minuet": _minuet,
    "llama.vscode": _llama_vscode,
    "continue": _continue,
    "zed": _zed,
}


def settings_of(editor: str, host: str, port: int, model: str) -> str:
    """Word the settings of an editor.

    Args:
        editor: one of `EDITORS`.
        host: address of the server.
        port: its port.
        model: name of the model.
    """
    return EDITORS[editor](f"http://{host}:{port}", model)
