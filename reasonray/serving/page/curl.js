// An edit as a shell command, and the dialog that shows it.

import { address } from "./edit.js";

const $ = (id) => document.getElementById(id);

/** A shell command that makes the same edit, of files with these names. */
export function curl(request, keyed) {
  const lines = [`curl -s ${quoted(address("v1/images/edits"))}`];
  if (keyed) lines.push('-H "Authorization: Bearer $KEY"');
  lines.push(`-F ${quoted(`image=@${fileName(request.name)}`)}`);
  if (request.mask) lines.push("-F mask=@mask.png");
  for (const [name, value] of Object.entries(request.fields)) {
    // Unlike -F, it takes a leading @ or < as it is.
    lines.push(`--form-string ${quoted(`${name}=${value}`)}`);
  }
  const decoded = "| jq -r '.data[0].b64_json' | base64 -d > edited.png";
  const fetched = request.url ? `curl -s ${quoted(request.url)} -o ${quoted(request.name)}\n` : "";
  return `${fetched}${lines.join(" \\\n  ")} \\\n  ${decoded}`;
}

/** Open the dialog on an edit that was made with this seed. */
export async function showCurl(request, seed, keyed) {
  $("curl-text").textContent = curl({ ...request, fields: { ...request.fields, seed } }, keyed);
  const files = request.url ? [] : [[request.name, request.source.url]];
  if (request.mask) files.push(["mask.png", URL.createObjectURL(request.mask)]);
  const links = files.map(([name, href]) =>
    Object.assign(document.createElement("a"), { href, download: name, textContent: name }));
  const parts = links.flatMap((link, index) => [index ? " and " : "It reads ", link]);
  $("curl-files").replaceChildren(...parts);
  $("curl-status").textContent = "";
  $("curl-dialog").showModal();
  await copy();
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("curl-text").textContent);
    $("curl-status").textContent = "Copied.";
  } catch {
    // Browsers have a clipboard for secure pages only, which http is on this machine alone.
    getSelection().selectAllChildren($("curl-text"));
    $("curl-status").textContent = "Selected; copy it with the keyboard.";
  }
}

$("curl-copy").addEventListener("click", copy);
$("curl-close").addEventListener("click", () => $("curl-dialog").close());

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** As curl reads it after @: without quotes a comma or semicolon would end it. */
const fileName = (name) => (/[,;"\\ ]/.test(name) ? `"${name.replace(/["\\]/g, "\\$&")}"` : name);
