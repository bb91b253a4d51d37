// The service's API as the page uses it. Nothing here knows of the page.

/** Of a path of the service. */
export const address = (path) => new URL(path, document.baseURI).href;

/** What the service answers in place of a picture, in its words; `param` names the field. */
export class ApiError extends Error {
  constructor(status, { message, param = null, code = null }, retryAfter = null) {
    super(message);
    Object.assign(this, { status, param, code, retryAfter });
  }
}

/** Field -> its JSON schema, of the form that /openapi.json describes. */
export async function fields() {
  const { paths } = await answer("openapi.json", {});
  const { content } = paths["/v1/images/edits"].post.requestBody;
  return content["multipart/form-data"].schema.properties;
}

/** The served editors with their own settings, the default first. */
export async function models(key) {
  return (await answer("v1/models", { headers: authorization(key) })).data;
}

/**
 * Edit a picture.
 *
 * @param request {image: Blob, name: of its file, mask: Blob or null, fields: {name: text}}
 * @param partials pictures on the way, 0 to 3
 * @yields {partial: Blob, index} and at the end {picture: Blob, seed: text}
 * @throws ApiError; AbortError when the signal ends it, at which the service stops, too
 */
export async function* edit(request, partials, key, signal) {
  const form = new FormData();
  form.append("image", request.image, request.name);
  if (request.mask) form.append("mask", request.mask, "mask.png");
  for (const [name, value] of Object.entries(request.fields)) form.append(name, value);
  form.append("stream", "true");
  form.append("partial_images", partials);
  const options = { method: "POST", body: form, headers: authorization(key), signal };
  const response = await sent("v1/images/edits", options);
  for await (const event of events(response.body)) {
    if (event.error) throw new ApiError(response.status, event.error);
    if (event.type === "image_edit.partial_image") {
      yield { partial: blob(event), index: event.partial_image_index };
    } else if (event.type === "image_edit.completed") {
      // The text that was sent is exact; a number as large need not be.
      yield { picture: blob(event), seed: request.fields.seed ?? String(event.seed) };
      return;
    }
  }
  throw new ApiError(response.status, { message: "The answer ended before the picture was finished." });
}

const authorization = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

const answer = async (path, options) => (await sent(path, options)).json();

async function sent(path, options) {
  let response;
  try {
    response = await fetch(address(path), { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The service does not answer, or broke the upload off." });
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  const message = `The service answers ${response.status}.`;
  throw new ApiError(response.status, error ?? { message }, response.headers.get("Retry-After"));
}

/** The data of server-sent events, up to [DONE]. */
async function* events(body) {
  let text = "";
  for await (const piece of pieces(body)) {
    text += piece;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const lines = text.slice(0, end).split("\n");
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
      if (data.trim() === "[DONE]") return;
      if (data) yield JSON.parse(data);
    }
  }
}

async function* pieces(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "The connection broke before the picture was finished." });
  } finally {
    reader.cancel().catch(() => {});
  }
}

function blob(event) {
  const bytes = Uint8Array.from(atob(event.b64_json), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: `image/${event.output_format}` });
}
