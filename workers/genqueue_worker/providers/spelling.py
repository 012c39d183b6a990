"""Names as Gemini's REST interface spells them."""

import re
from functools import lru_cache

_AFTER_UNDERSCORE = re.compile(r"_([a-z0-9])")


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    """Turn snake_case into camelCase; what is camelCase stays."""
    return _AFTER_UNDERSCORE.sub(lambda match: match.group(1).upper(), name)
