"""A generate request, parsed and checked the way the API checks it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from genqueue_lab.emulator.errors import GoogleError, bad_fields, bad_values, invalid
from genqueue_lab.emulator.exchange import MAX_BODY
from genqueue_lab.emulator.fields import COUNT, GENERATE, Message, Violations

if TYPE_CHECKING:
    from genqueue_lab.emulator.catalog import Model
    from genqueue_lab.emulator.exchange import Request

#: Characters of text that count as one token, as Google's rule of thumb says.
CHARACTERS_PER_TOKEN = 4

#: Tokens of an image or a file.
TOKENS_PER_MEDIA = 258

_MIME_TYPES = ("text/plain", "application/json", "application/xml", "application/yaml", "text/x.enum")
_MIME_SENTENCE = (
    "allowed mimetypes are `text/plain`, `application/json`, `application/xml`, `application/yaml` and `text/x.enum`."
)
_DATA = {
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
}


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A checked request; names inside are the JSON ones.

    Attributes:
        contents: the turns, each with `parts` and perhaps `role`.
        config: the generationConfig.
        functions: every function declaration of every tool.
        calling: the functionCallingConfig.
        searches: whether the tool googleSearch is given.
        tier: the service tier asked for, in lower case.
        prompt_tokens: tokens of contents and system instruction.
    """

    contents: list[dict[str, Any]]
    system_instruction: dict[str, Any]
    config: dict[str, Any]
    functions: list[dict[str, Any]]
    calling: dict[str, Any]
    tier: str
    prompt_tokens: int
    searches: bool = False

    @property
    def prompt(self) -> str:
        """All text of all turns."""
        return "\n".join(part["text"] for turn in self.contents for part in turn["parts"] if "text" in part)

    @property
    def fingerprint(self) -> str:
        """Sixteen characters that stand for the first turn's text, so that a continued answer counts with it."""
        return fingerprint(" ".join(part["text"] for part in self.contents[0]["parts"] if "text" in part))

    @property
    def last_text(self) -> str:
        """The text of the last turn."""
        return " ".join(part["text"] for part in self.contents[-1]["parts"] if "text" in part)


def fingerprint(prompt: str) -> str:
    """Return what stands for a prompt, the text of the first turn, in the statistics."""
    return hashlib.blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def parse_generate(request: Request, model: Model, message: Message = GENERATE) -> GenerateRequest:
    """Return the checked request; raises GoogleError in the API's words."""
    return _checked(_read(request, message), model)


def count_tokens(request: Request, model: Model, message: Message = COUNT) -> int:
    """Return the tokens of a countTokens request; raises GoogleError in the API's words."""
    body = _read(request, message)
    if inner := body.get("generateContentRequest"):
        return _checked(inner, model).prompt_tokens
    _check_contents(body.get("contents", []), "CountTokensRequest")
    return tokens_of(body["contents"])


def _read(request: Request, message: Message) -> dict[str, Any]:
    """Return the body's fields; raises GoogleError when it is too large, no JSON or no such message."""
    if request.oversized:
        raise invalid(f"Request payload size exceeds the limit: {MAX_BODY} bytes.")
    try:
        body = msgspec.json.decode(request.body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = request.body[:40].decode("utf-8", "replace").splitlines()[0]
        sentence = f"Invalid JSON payload received. Unexpected token.\n{text}\n^"
        raise bad_fields([("", sentence)]) from error
    if not isinstance(body, dict):
        raise bad_fields([("", "Invalid JSON payload received. Root element must be a message.")])
    violations = Violations()
    read = message.read(body, "", violations)
    if violations.found:
        raise bad_fields(violations.found)
    return read


def _checked(body: dict[str, Any], model: Model) -> GenerateRequest:
    contents = body.get("contents", [])
    config = body.get("generationConfig", {})
    _check_contents(contents, "GenerateContentRequest")
    _check_config(config)
    if model.signs_calls:
        _check_signatures(contents)
    system = body.get("systemInstruction", {})
    prompt_tokens = tokens_of([*contents, system])
    if prompt_tokens > model.input_limit:
        raise invalid(
            f"The input token count ({prompt_tokens}) exceeds the maximum number of tokens allowed "
            f"({model.input_limit})."
        )
    return GenerateRequest(
        contents=contents,
        system_instruction=system,
        config=config,
        functions=[function for tool in body.get("tools", []) for function in tool.get("functionDeclarations", [])],
        calling=body.get("toolConfig", {}).get("functionCallingConfig", {}),
        tier=body.get("serviceTier", "standard").lower().removeprefix("service_tier_"),
        prompt_tokens=prompt_tokens,
        searches=any("googleSearch" in tool for tool in body.get("tools", ())),
    )


def _check_contents(contents: list[dict[str, Any]], request: str) -> None:
    if not contents:
        raise invalid(f"* {request}.contents: contents is not specified\n")
    violations: list[tuple[str, str]] = []
    for index, content in enumerate(contents):
        if content.get("role", "user") not in ("user", "model", "function", "tool"):
            raise invalid("Please use a valid role: user, model.")
        path = f"contents[{index}].parts"
        if not content.setdefault("parts", []):
            violations.append((path, "contents.parts must not be empty."))
        violations.extend(
            (f"{path}[{number}].data", "required oneof field 'data' must have one initialized field")
            for number, part in enumerate(content["parts"])
            if not _DATA & part.keys()
        )
    if violations:
        raise bad_values(violations)


def _check_config(config: dict[str, Any]) -> None:
    """Check the values' bounds; the sentences are the API's own where they are known."""
    rules = (
        (0 <= config.get("temperature", 1) <= 2, "temperature", "temperature must be in the range [0.0, 2.0]."),
        (0 <= config.get("topP", 1) <= 1, "top_p", "top_p must be in the range [0.0, 1.0]."),
        (config.get("topK", 1) >= 0, "top_k", "top_k must be non-negative."),
        (config.get("maxOutputTokens", 1) >= 1, "max_output_tokens", "max_output_tokens must be positive."),
        (
            len(config.get("stopSequences", ())) <= 5,
            "stop_sequences",
            "the number of stop_sequences must not exceed 5.",
        ),
        (config.get("responseMimeType", "text/plain") in _MIME_TYPES, "response_mime_type", _MIME_SENTENCE),
    )
    violations = [(f"generation_config.{name}", sentence) for holds, name, sentence in rules if not holds]
    if violations:
        raise bad_values(violations)
    if config.get("candidateCount", 1) > 1:
        raise invalid("Multiple candidates is not enabled for this model")


def _check_signatures(contents: list[dict[str, Any]]) -> None:
    """Refuse function calls of the current turn that come back without their thought signature."""
    asked = [index for index, content in enumerate(contents) if _asks(content)]
    for position, content in enumerate(contents[asked[-1] if asked else 0 :], 1 + (asked[-1] if asked else 0)):
        calls = [part for part in content["parts"] if "functionCall" in part]
        if calls and "thoughtSignature" not in calls[0]:  # of parallel calls only the first is signed
            name = calls[0]["functionCall"].get("name", "")
            raise GoogleError(
                "INVALID_ARGUMENT",
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                f"data, function call `default_api:{name}` , position {position}. Please refer to "
                "https://ai.google.dev/gemini-api/docs/thought-signatures for more details.",
            )


def _asks(content: dict[str, Any]) -> bool:
    """Whether a turn is the user's own words: it starts the current turn."""
    return content.get("role", "user") == "user" and any("text" in part for part in content["parts"])


def tokens_of(contents: list[dict[str, Any]]) -> int:
    """Return the tokens that turns count for."""
    return sum(_part_tokens(part) for content in contents for part in content.get("parts", ()))


def _part_tokens(part: dict[str, Any]) -> int:
    if "text" in part:
        return -(-len(part["text"]) // CHARACTERS_PER_TOKEN)
    if "inlineData" in part or "fileData" in part:
        return TOKENS_PER_MEDIA
    return -(-len(msgspec.json.encode(part)) // CHARACTERS_PER_TOKEN)
