"""What the Developer API takes, field by field, as of google-genai 3.4. A test holds these tables to its types.

Names are camelCase. A path joins them with dots and leaves lists out: `tools.functionDeclarations.parameters`.
"""

from genqueue_worker.providers.errors import ProviderError

#: Fields of a config that go into `generationConfig`.
GENERATION_FIELDS = frozenset(
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
        "enableEnhancedCivicAnswers",
        "audioTranscriptionConfig",
    }
)

#: Fields of a config that stand beside `generationConfig`.
TOP_LEVEL_FIELDS = frozenset(
    {
        "safetySettings",
        "tools",
        "toolConfig",
        "labels",
        "cachedContent",
        "serviceTier",
        "continuationToken",
        "store",
    }
)

#: Paths google-genai refuses for the Developer API.
REFUSED = frozenset(
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
)


def unsupported(path: str) -> ProviderError:
    """Make the error for a field which the Developer API does not take."""
    return ProviderError("unsupported_field", f"The Gemini Developer API takes no {path}; leave it out of the request")
