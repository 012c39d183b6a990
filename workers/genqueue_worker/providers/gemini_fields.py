"""What the Developer API takes, field by field, as of google-genai 3.4. A test holds these tables to the SDK's types.

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
        "systemInstruction",
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

#: Fields that steer the SDK's own client, with the one value that asks for what happens here anyway.
SDK_FIELDS: dict[str, object] = {
    "automaticContinuation": False,
    "automaticFunctionCalling": {"disable": True},
    "shouldReturnHttpResponse": False,
}

#: Paths the SDK refuses for the Developer API, and `httpOptions`, which would redirect the request.
REFUSED = frozenset(
    {
        "httpOptions",
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

#: Paths whose values hold names of the caller's own and are not spelled anew.
VERBATIM = frozenset(
    {
        "labels",
        "responseJsonSchema",
        "tools.functionDeclarations.parametersJsonSchema",
        "tools.functionDeclarations.responseJsonSchema",
        "tools.mcpServers.streamableHttpTransport.headers",
        "contents.parts.partMetadata",
        "contents.parts.functionCall.args",
        "contents.parts.functionResponse.response",
        "contents.parts.toolCall.args",
        "contents.parts.toolResponse.response",
    }
)

#: Paths that hold a Schema.
SCHEMAS = frozenset({"tools.functionDeclarations.parameters", "tools.functionDeclarations.response"})

#: Fields that hold names of an enumeration, which the API spells in capitals; `serviceTier` alone is lower case.
ENUMS = frozenset(
    {
        "behavior",
        "category",
        "contentLayers",
        "disabledSafetyPolicies",
        "environment",
        "language",
        "level",
        "mediaProcessing",
        "mediaResolution",
        "mode",
        "outcome",
        "scheduling",
        "thinkingLevel",
        "threshold",
        "toolType",
    }
)


def unsupported(path: str) -> ProviderError:
    """Make the error for a field which the Developer API does not take."""
    return ProviderError("unsupported_field", f"The Gemini Developer API takes no {path}; leave it out of the request")
