"""Bodies of requests and answers: reads the one within bounds, and words the other as clients find it."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response

from blocklm.serving.protocols.fields import Fields
from blocklm.serving.refused import Refused

MAX_BODY = 2 << 20  # bytes
BODY_SECONDS = 10  # in which a client must have sent its request


async def read_fields(request: Request) -> Fields:
    """Read the fields of a request within bounds of size and time.

    Raises:
        Refused: it is too large, too slow, of another origin, or no JSON object.
    """
    origin = urlsplit(request.headers.get("origin", ""))
    if origin.netloc and origin.netloc != request.headers.get("host"):
        raise Refused(403, "pages of other origins may not ask")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise Refused(413, f"the request has more than {MAX_BODY} bytes")
    except TimeoutError:
        raise Refused(408, f"the request was not complete after {BODY_SECONDS} seconds") from None
    return Fields.parse(bytes(body))


def json_answer(content: Any, status: int = 200) -> Response:
    """Answer with compact JSON: llama.vim does not find its fields where spaces follow the colons."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def event_bytes(content: Any) -> bytes:
    """Word an event of a stream; None for its end."""
    text = "[DONE]" if content is None else json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()
