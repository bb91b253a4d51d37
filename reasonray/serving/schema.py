"""The form as OpenAPI has it: what `/openapi.json` says, and which fields there are."""

from typing import Any

from reasonray.serving.config import MAX_N, MAX_PARTIALS, MAX_PROMPT, MAX_SEED, MAX_STEPS

_FILE = {"type": "string", "format": "binary"}

FIELDS: dict[str, dict[str, Any]] = {
    "image": {
        **_FILE,
        "description": "The picture: one PNG, JPEG or WebP, judged by its bytes; image[] is the "
        "same",
    },
    "mask": {
        **_FILE,
        "description": "PNG of the picture's size; where it is fully transparent, the picture may "
        "change; elsewhere the reply has the picture's own pixels",
    },
    "mask_image": {
        **_FILE,
        "description": "In place of mask, as diffusers has it: black and white, white may change",
    },
    "prompt": {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_PROMPT,
        "description": "What to do; the picture is read together with it",
    },
    "model": {"type": "string", "description": "One of /v1/models; by default the first"},
    "n": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_N,
        "default": 1,
        "description": "Pictures; each has the seed of the one before it plus one",
    },
    "size": {
        "type": "string",
        "default": "auto",
        "description": "auto: the picture's own; or one of those that /v1/models lists, to which "
        "picture and mask are resized first",
    },
    "output_format": {"type": "string", "enum": ["png", "jpeg", "webp"], "default": "png"},
    "output_compression": {
        "type": "integer",
        "minimum": 0,
        "maximum": 100,
        "default": 100,
        "description": "Quality of jpeg and webp; webp of 100 is without loss; png has 100 only",
    },
    "response_format": {"type": "string", "enum": ["b64_json"], "default": "b64_json"},
    "stream": {"type": "boolean", "default": False, "description": "Send events; n is 1"},
    "partial_images": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_PARTIALS,
        "default": 0,
        "description": "Unfinished pictures in the stream",
    },
    "background": {"type": "string", "enum": ["auto", "opaque"], "default": "auto"},
    "quality": {"type": "string", "enum": ["auto"], "default": "auto"},
    "seed": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_SEED,
        "description": "The same seed gives the same picture; by default drawn; the reply has it",
    },
    "num_inference_steps": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_STEPS,
        "description": "Denoising steps; by default the editor's",
    },
    "guidance_scale": {
        "type": "number",
        "minimum": 1,
        "maximum": 30,
        "description": "How much the instruction counts; by default the editor's",
    },
    "image_guidance_scale": {
        "type": "number",
        "minimum": 0,
        "maximum": 10,
        "description": "How much the picture counts; by default the editor's",
    },
    "user": {"type": "string", "description": "Accepted, without effect"},
    "safety_identifier": {"type": "string", "description": "Accepted, without effect"},
}
"""Name -> JSON schema; files are those of format binary."""

SCALARS = frozenset(name for name, schema in FIELDS.items() if schema.get("format") != "binary")

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {
                    "enum": ["invalid_request_error", "rate_limit_error", "server_error"],
                },
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}

_REPLY = {
    "type": "object",
    "required": ["created", "data", "output_format", "size", "background", "usage", "seed"],
    "properties": {
        "created": {"type": "integer"},
        "data": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["b64_json"],
                "properties": {"b64_json": {"type": "string"}},
            },
        },
        "output_format": {"enum": ["png", "jpeg", "webp"]},
        "size": {"type": "string"},
        "background": {"const": "opaque"},
        "usage": {"type": "object"},
        "seed": {"type": "integer"},
    },
}

_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "event": {
            "enum": ["image_edit.partial_image", "image_edit.completed", "error", "message"],
        },
        "data": {"type": "string", "description": "JSON of OpenAI's event; [DONE] at the end"},
    },
}

STATUSES = {
    400: "A field is wrong; param names it",
    401: "No valid key",
    404: "No such model",
    408: "The body came too slowly",
    413: "The body is too large",
    415: "Not multipart/form-data",
    429: "The service is full, or the key's rate is used up; Retry-After says how long",
    500: "The service failed",
    503: "Starting, or the process that worked on it was lost",
    504: "Not finished within the deadline",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's responses of these statuses."""
    content = {"application/json": {"schema": _ERROR}}
    return {status: {"description": STATUSES[status], "content": content} for status in statuses}


EDITS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image", "prompt"],
                    "properties": FIELDS,
                    "additionalProperties": False,
                }
            }
        },
    },
    "responses": {
        "200": {
            "description": "The edited pictures, or with stream=true the events",
            "content": {
                "application/json": {"schema": _REPLY},
                "text/event-stream": {"schema": _EVENT},
            },
        }
    },
}
"""What OpenAPI says of `POST /v1/images/edits` beside the errors."""
