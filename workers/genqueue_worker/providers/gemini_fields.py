"""What Gemini's two surfaces take, field by field, as of google-genai 3.4. A test holds these tables to its types.

Names are camelCase. A path joins them with dots and leaves lists out: `tools.functionDeclarations.parameters`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from genqueue_worker.providers.errors import ProviderError

#: Fields of a config that go into `generationConfig`, on both surfaces.
_GENERATION: Final = frozenset(
    {
        "temperature",
        "topP",
        "topK",
        "candidateCount",
        "maxOutputTokens",
        "stopSequences",
        "responseLogprobs",
        "logprobs",
        "presencePenalty",
        "frequencyPenalty",
        "seed",
        "responseMimeType",
        "responseSchema",
        "responseJsonSchema",
        "responseModalities",
        "mediaResolution",
        "speechConfig",
        "thinkingConfig",
        "imageConfig",
        "audioTranscriptionConfig",
    }
)

#: Fields of a config that stand beside `generationConfig`, on both surfaces.
_TOP_LEVEL: Final = frozenset(
    {
        "safetySettings",
        "tools",
        "toolConfig",
        "labels",
        "cachedContent",
        "serviceTier",
        "continuationToken",
    }
)

#: Where a request names files by their URI.
FILE_URIS: Final = frozenset(
    {"contents.parts.fileData.fileUri", "contents.parts.functionResponse.parts.fileData.fileUri"}
)

_VOICES: Final = ("speechConfig.voiceConfig", "speechConfig.multiSpeakerVoiceConfig.speakerVoiceConfigs.voiceConfig")


@dataclass(frozen=True, slots=True)
class Surface:
    """One of the two ways Gemini is offered, and what it takes.

    Attributes:
        name: what it is called, as the subject of a sentence.
        other: what the other one is called.
        prefix: what names it explicitly in front of a model.
        generation: fields of a config that go into `generationConfig`, and what they are called there.
        top_level: those that stand beside it, likewise.
        refused: paths google-genai refuses for it.
        foreign_files: matches URIs of files that only the other one can read.
    """

    name: str
    other: str
    prefix: str
    generation: Mapping[str, str]
    top_level: Mapping[str, str]
    refused: frozenset[str]
    foreign_files: re.Pattern[str]

    def unsupported(self, path: str) -> ProviderError:
        """Make the error for a field which this surface does not take."""
        taker = _OTHERS[self.prefix]
        name = path.partition(".")[0]
        known = name == "contents" or name in taker.generation or name in taker.top_level
        way = f"{self.other} does: send it there, as {taker.prefix}/<model>, or" if known else "please"
        return ProviderError("unsupported", f"{self.name} takes no {path}; {way} leave it out of the request")

    def foreign_file(self, path: str) -> ProviderError:
        """Make the error for a file which only the other surface can read."""
        what = "gs:// files" if self is DEVELOPER else "files of the Files API"
        way = f"send it there, as {_OTHERS[self.prefix].prefix}/<model>"
        return ProviderError("unsupported", f"{self.name} takes no {path}; of {what}, which {self.other} reads: {way}")


def _as_they_are(*names: str) -> dict[str, str]:
    return {name: name for name in names}


DEVELOPER: Final = Surface(
    name="The Gemini Developer API",
    other="Vertex AI",
    prefix="gemini",
    generation=_as_they_are(*_GENERATION, "enableEnhancedCivicAnswers"),
    top_level=_as_they_are(*_TOP_LEVEL, "store"),
    refused=frozenset(
        {
            "routingConfig",
            "modelSelectionConfig",
            "audioTimestamp",
            "modelArmorConfig",
            "generationOutputConfig",
            "safetySettings.method",
            "imageConfig.personGeneration",
            "imageConfig.prominentPeople",
            "imageConfig.outputMimeType",
            "imageConfig.outputCompressionQuality",
            "imageConfig.imageOutputOptions",
            "responseSchema.additionalProperties",
            "toolConfig.functionCallingConfig.streamFunctionCallArguments",
            "tools.retrieval",
            "tools.enterpriseWebSearch",
            "tools.parallelAiSearch",
            "tools.exaAiSearch",
            "tools.googleSearch.blockingConfidence",
            "tools.googleSearch.excludeDomains",
            "tools.googleMaps.groundingTypes",
            "tools.googleMaps.authConfig.apiKeyConfig",
            "tools.googleMaps.authConfig.authType",
            "tools.googleMaps.authConfig.googleServiceAccountConfig",
            "tools.googleMaps.authConfig.httpBasicAuthConfig",
            "tools.googleMaps.authConfig.oauthConfig",
            "tools.googleMaps.authConfig.oidcConfig",
            "contents.parts.functionCall.partialArgs",
            "contents.parts.functionCall.willContinue",
        }
    ),
    foreign_files=re.compile(r"gs://"),
)

VERTEX: Final = Surface(
    name="Vertex AI",
    other="the Gemini Developer API",
    prefix="vertex",
    generation={
        **_as_they_are(*_GENERATION, "routingConfig", "audioTimestamp"),
        "modelSelectionConfig": "modelConfig",
    },
    top_level={**_as_they_are(*_TOP_LEVEL, "modelArmorConfig"), "generationOutputConfig": "outputConfig"},
    refused=frozenset(
        {
            "enableEnhancedCivicAnswers",
            "store",
            "toolConfig.includeServerSideToolInvocations",
            "tools.fileSearch",
            "tools.mcpServers",
            "contents.parts.toolCall",
            "contents.parts.toolResponse",
            "contents.parts.partMetadata",
            "contents.parts.functionResponse.willContinue",
            "contents.parts.functionResponse.parts.mediaProcessing",
            *(f"{voice}.replicatedVoiceConfig.consentAudio" for voice in _VOICES),
            *(f"{voice}.replicatedVoiceConfig.voiceConsentSignature" for voice in _VOICES),
        }
    ),
    foreign_files=re.compile(r"https://generativelanguage\.googleapis\.com/(?:.*/)?files/"),
)

_OTHERS: Final = {DEVELOPER.prefix: VERTEX, VERTEX.prefix: DEVELOPER}
