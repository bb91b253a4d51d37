"""An editor under test behind OpenAI's `POST /images/edits`, and whose fault it is if it fails."""

import base64
import http.client
import json
import os
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urljoin

import PIL.Image

from reasonray.core import images
from reasonray.core.errors import RowError, RunError
from reasonray.models.server_faults import names_parameter

REVISED = "revised_prompt"
"""Key of a picture's `info`, and of OpenAI's replies: the instruction that was written first."""

_NOT_OF_A_ROW = (401, 403, 404, 429)
"""Of the key, the URL, the model or the account."""

_UNREACHED = ("ConnectError", "ConnectTimeout", "UnsupportedProtocol")
"""What the client's own errors come of where no request has arrived."""

_MAX_PIXELS = 10**8
_MAX_BYTES = 2**28
"""Of a picture: what a server gives may be endless, or unpack to what no memory holds."""

_URL_TIMEOUT_S = 120.0


class EditsServer:
    """One request for each edit; the key is that of `OPENAI_API_KEY`.

    What the server refuses or fails on is a failure of its row. A server that is away, takes no
    key, has no such model or speaks otherwise stops the evaluation, which goes on later.

    Attributes:
        takes_several: all pictures of an edit are sent.
        notices: what the server does not take.

    Args:
        name: of the editor, for messages.
        url: http://HOST/v1, with #MODEL behind it.
        arguments: of each request, beside what OpenAI's client sends by itself.
    """

    takes_several = True

    def __init__(self, name: str, url: str, arguments: dict[str, Any]) -> None:
        import openai

        self._url, _, self._model = url.partition("#")
        self._name, self._arguments = name, arguments
        key = os.environ.get("OPENAI_API_KEY", "none")
        # Its own retries, with backoff and Retry-After.
        self._client = openai.OpenAI(base_url=self._url, api_key=key, max_retries=8)
        self._takes_seed = True
        self.notices: list[str] = []

    def edit(
        self,
        images: Sequence[Sequence[PIL.Image.Image]],
        instructions: Sequence[str],
        seeds: Sequence[int],
    ) -> list[PIL.Image.Image | RowError]:
        """See `Edits`; all at once.

        Raises:
            RunError: what goes wrong is no row's fault.
        """
        with ThreadPoolExecutor(len(images)) as threads:
            return list(threads.map(self._one, images, instructions, seeds))

    def _one(
        self, pictures: Sequence[PIL.Image.Image], instruction: str, seed: int
    ) -> PIL.Image.Image | RowError:
        import openai

        files = [
            (f"image-{number}.png", images.encode_png(picture)["bytes"], "image/png")
            for number, picture in enumerate(pictures, 1)
        ]
        # OpenAI's own names and those of other servers, which its client does not know.
        unasked = {"seed": seed % 2**31} if self._takes_seed else {}
        body = unasked | self._arguments
        if self._model:
            body["model"] = self._model
        try:
            reply = self._client.images.with_raw_response.edit(
                # With one as `image`, which all servers know, with several as `image[]`.
                image=files[0] if len(files) == 1 else files,
                prompt=instruction,
                extra_body=body,
            )
        except openai.APIStatusError as error:
            if unasked.keys() - self._arguments.keys() and _is_of_seed(error):
                if self._takes_seed:
                    self._takes_seed = False
                    self.notices.append("requests are taken without seed")
                return self._one(pictures, instruction, seed)
            if error.status_code in _NOT_OF_A_ROW or error.status_code < 400:
                raise RunError(f"editor {self._name}: {_message(error)}") from error
            is_refused = error.status_code < 500 and error.status_code != 408
            return RowError("refused" if is_refused else "server_failed", _message(error))
        except openai.APIConnectionError as error:
            if type(error.__cause__).__name__ in _UNREACHED:
                raise RunError(f"editor {self._name}: {_message(error)}") from error
            return RowError("server_failed", _message(error))
        except openai.OpenAIError as error:
            raise RunError(f"editor {self._name}: {_message(error)}") from error
        return self._picture(reply.text)

    def _picture(self, text: str) -> PIL.Image.Image | RowError:
        try:
            data = json.loads(text)["data"]
            first = dict(data[0]) if data else {}
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            beginning = " ".join(text.split())[:200]
            raise RunError(
                f"editor {self._name}: {self._url}: expected an images response of OpenAI's API, "
                f"which the reply is not; it begins with {beginning!r}"
            ) from error
        try:
            encoded, url = (
                value if isinstance(value := first.get(key), str) else ""
                for key in ("b64_json", "url")
            )
            if encoded:
                content = base64.b64decode(encoded.rpartition(";base64,")[2], validate=True)
            elif url:
                content = self._followed(url)
            else:
                return RowError("no_picture", "the reply holds neither b64_json nor url")
            picture = images.read({"bytes": content, "path": "the reply"}, _MAX_PIXELS).pixels
        except RowError as error:
            return RowError("no_picture", error.detail)
        except ValueError as error:
            return RowError("no_picture", f"the reply holds no base64 ({error})")
        picture.info[REVISED] = first.get(REVISED)
        return picture

    def _followed(self, url: str) -> bytes:
        try:
            link = urljoin(f"{self._url}/", url)
        except ValueError as error:
            raise RowError("no_picture", f"the reply's url {url[:200]}: {error}") from error
        if not link.startswith(("http://", "https://", "data:image/")):
            raise RowError("no_picture", f"the reply's url is none of a picture: {link[:200]}")
        try:
            with urllib.request.urlopen(link, timeout=_URL_TIMEOUT_S) as opened:
                content: bytes = opened.read(_MAX_BYTES + 1)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise RowError("no_picture", f"{link[:200]}: {error}") from error
        if len(content) > _MAX_BYTES:
            raise RowError("no_picture", f"{link[:200]}: of over {_MAX_BYTES} bytes")
        return content


def _is_of_seed(error: Any) -> bool:
    """Whether the server takes no `seed`, which is sent unasked; OpenAI's own does not."""
    is_of_form = error.status_code in (400, 422)
    return is_of_form and (error.param == "seed" or names_parameter("seed", str(error)))


def _message(error: Exception) -> str:
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    return " ".join(f"{error}{cause}".split())[:500]
