// The page: what is shown and when. The service's API is in edit.js.

import { slide } from "./compare.js";
import { showCurl } from "./curl.js";
import { ApiError, edit, fields, models } from "./edit.js";
import { ANY, EXAMPLES } from "./examples.js";
import { Mask } from "./mask.js";

const PARTIALS = 3;
const SETTINGS = ["num_inference_steps", "guidance_scale", "image_guidance_scale"];
const KEY = "reasonray-key";

const $ = (id) => document.getElementById(id);
const mask = new Mask($("painting"), $("brush"), showMask);

// What is edited: {blob, name, url: of the blob, alt, from: an address or null, width, height}.
let source = null;
// The entry of `entries` that is shown, or null while the picture itself is.
let shown = null;
let running = null;
let served = [];
const entries = [];

// ---- The picture

async function open(blob, name, { alt = name, from = null } = {}) {
  stop();
  fail("image");
  const url = URL.createObjectURL(blob);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    fail("image", `${name}: this browser cannot show it; PNG, JPEG and WebP are edited.`);
    return;
  }
  use({ blob, name, url, alt, from, width: image.naturalWidth, height: image.naturalHeight });
}

function use(picture, painting = null) {
  source = picture;
  mask.fit(picture.width, picture.height);
  mask.put(painting);
  const share = picture.width / picture.height;
  $("frame").style.setProperty("--share", share);
  $("before").src = picture.url;
  $("before").alt = picture.alt;
  $("empty").hidden = true;
  $("frame").hidden = false;
  suggest(EXAMPLES.find(({ file }) => picture.from?.endsWith(`/${file}`)) ?? ANY);
  paint(false);
  show(null);
}

/** Show an entry, or with null the picture that is to be edited. */
function show(entry) {
  shown = entry;
  $("frame").classList.toggle("compared", Boolean(entry));
  $("after").hidden = $("slider").hidden = !entry;
  $("result-tools").hidden = !entry;
  $("picture-tools").hidden = Boolean(entry) || Boolean(running);
  showMask();
  for (const [index, item] of [...$("history").children].entries()) {
    const isShown = entries[entries.length - 1 - index] === entry;
    item.firstChild.toggleAttribute("aria-current", isShown);
  }
  if (!entry) return;
  $("after").src = entry.url;
  $("after").alt = `Edited: ${entry.request.fields.prompt}`;
  $("download").href = entry.url;
  $("download").download = `edited-${entry.seed}.png`;
  $("made").textContent = `Seed ${entry.seed}.`;
  slide(20); // most of the result, and that there is a slider
}

// ---- The mask

function paint(on) {
  $("mask-toggle").setAttribute("aria-pressed", on);
  $("mask-tools").hidden = !on;
  erase(false);
  showMask();
  if (on) $("painting").focus({ preventScroll: true });
}

function erase(on) {
  mask.erases = on;
  $("erase").setAttribute("aria-pressed", on);
}

function showMask() {
  const on = $("mask-toggle").getAttribute("aria-pressed") === "true";
  const atRest = !shown && !running;
  $("painting").hidden = !source || !atRest || (!on && mask.isEmpty);
  $("painting").classList.toggle("still", !on);
  $("painting").tabIndex = on ? 0 : -1;
  if ($("painting").hidden || !on) $("brush").hidden = true;
  $("mask-note").hidden = !on && mask.isEmpty;
  $("mask-note").textContent = mask.isEmpty
    ? "Paint over what may change."
    : "Outside the mask every pixel stays.";
  fail("mask");
}

// ---- The edit

async function request() {
  const values = { prompt: $("prompt").value };
  if (served.length > 1) values.model = $("model").value;
  if ($("seed").value.trim()) values.seed = $("seed").value.trim();
  for (const name of SETTINGS) {
    const { value, defaultValue } = $(name);
    if (value !== "" && value !== defaultValue) values[name] = value;
  }
  const painting = mask.copy();
  const { blob: image, name, from: url } = source;
  return { image, name, url, mask: await mask.file(), painting, source, fields: values };
}

async function run() {
  if (running) return;
  fail();
  if (!source) return fail("image", "Choose a picture first.", $("image"));
  const unread = SETTINGS.find((name) => $(name).validity.badInput);
  if (unread) return fail(unread, "This is no number.", $(unread));
  const controller = (running = new AbortController());
  const begin = performance.now();
  const seconds = () => (performance.now() - begin) / 1000;
  try {
    const asked = await request();
    working(true);
    for await (const event of edit(asked, PARTIALS, key(), controller.signal)) {
      if (running !== controller) return;
      if (event.partial) await sketch(event.partial, event.index);
      else keep(asked, event, seconds());
    }
  } catch (error) {
    if (running !== controller) return;
    working(false);
    if (controller.signal.aborted) say("Stopped.");
    else complain(error);
  }
}

async function sketch(blob, index) {
  const url = URL.createObjectURL(blob);
  const old = $("after").src;
  $("after").src = url;
  await $("after").decode().catch(() => {});
  if (old.startsWith("blob:") && !entries.some((each) => each.url === old)) URL.revokeObjectURL(old);
  if (!running) return;
  $("after").hidden = false;
  $("after").alt = "The unfinished picture";
  $("progress").value = index + 1;
  say(`Picture ${index + 1} of ${PARTIALS} on the way`);
}

function keep(asked, { picture, seed }, seconds) {
  const entry = { request: asked, blob: picture, url: URL.createObjectURL(picture), seed };
  entries.push(entry);
  remember(entry);
  working(false);
  show(entry);
  say(`Done in ${seconds.toFixed(1)} s.`);
}

function working(on) {
  if (!on) running = null;
  slide(0);
  show(null);
  $("frame").classList.toggle("working", on);
  $("edit").disabled = on;
  $("working-tools").hidden = !on;
  $("progress").removeAttribute("value");
  if (on) {
    say("Editing");
    $("stop").focus({ preventScroll: true });
    $("frame").scrollIntoView({ block: "nearest", behavior: "smooth" });
  } else if (document.activeElement === document.body || document.activeElement === $("stop")) {
    $("edit").focus({ preventScroll: true });
  }
}

function stop() {
  running?.abort();
}

function further() {
  const { blob, url, request: asked } = shown;
  const { width, height } = $("after").naturalWidth
    ? { width: $("after").naturalWidth, height: $("after").naturalHeight }
    : asked.source;
  use({ blob, name: "picture.png", url, alt: `Edited: ${asked.fields.prompt}`, from: null, width, height });
  $("prompt").value = "";
  $("prompt").focus();
}

// ---- The session's edits

function remember(entry) {
  const button = document.createElement("button");
  const image = document.createElement("img");
  const text = document.createElement("span");
  image.src = entry.url;
  image.alt = "";
  text.textContent = entry.request.fields.prompt;
  button.type = "button";
  button.append(image, text);
  button.addEventListener("click", () => recall(entry));
  const item = document.createElement("li");
  item.append(button);
  $("history").prepend(item);
  $("history-section").hidden = false;
}

function recall(entry) {
  if (running) return;
  const { request: asked } = entry;
  use(asked.source, asked.painting);
  fail();
  $("prompt").value = asked.fields.prompt;
  $("seed").value = asked.fields.seed ?? "";
  if (asked.fields.model) $("model").value = asked.fields.model;
  settle();
  for (const name of SETTINGS) if (name in asked.fields) $(name).value = asked.fields[name];
  show(entry);
  say("");
}

// ---- What goes wrong

/** Write a message beside a field, or with none take away all, or this one's. */
function fail(field = null, message = "", focused = null) {
  for (const place of field ? [$(`${field}-error`)] : document.querySelectorAll(".error[id]")) {
    place.textContent = message;
    place.hidden = !message;
    const input = $(place.id.replace("-error", ""));
    if (message) input?.setAttribute("aria-invalid", "true");
    else input?.removeAttribute("aria-invalid");
  }
  if (!message) return;
  if ($("settings").contains($(`${field}-error`))) $("settings").open = true;
  focused?.focus();
  say("");
}

function complain(error) {
  if (!(error instanceof ApiError)) console.error(error);
  if (error.status === 401) return askForKey(error.message);
  const name = error.param === "image[]" ? "image" : error.param;
  const field = name && $(`${name}-error`) ? name : "other";
  const again = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  fail(field, error.message + again, $(field === "mask" ? "mask-toggle" : field));
}

function say(text) {
  $("status").textContent = text;
}

// ---- The key, the editors and their settings

const key = () => sessionStorage.getItem(KEY) ?? "";

function askForKey(message) {
  $("key-field").hidden = false;
  fail("key", message, $("key"));
}

async function useKey() {
  sessionStorage.setItem(KEY, $("key").value.trim());
  fail("key");
  await readModels();
}

async function readModels() {
  try {
    served = await models(key());
  } catch (error) {
    complain(error);
    if (error.status === 503) setTimeout(readModels, 1000 * (error.retryAfter ?? 1)); // it starts
    return;
  }
  fail("other");
  $("key-field").hidden = true;
  $("model").replaceChildren(...served.map(({ id }) => new Option(id)));
  $("models").hidden = served.length < 2;
  settle();
}

/** The settings of the editor that is chosen. */
function settle() {
  const model = served.find(({ id }) => id === $("model").value);
  for (const name of SETTINGS) $(name).value = $(name).defaultValue = model?.[name] ?? "";
}

async function readLimits() {
  const schemas = await fields();
  for (const name of SETTINGS) [$(name).min, $(name).max] = [schemas[name].minimum, schemas[name].maximum];
  for (const name of [...SETTINGS, "seed"]) {
    $(`${name}-hint`).textContent = schemas[name].description.split(/;/)[0];
  }
  $("prompt").maxLength = schemas.prompt.maxLength;
}

// ---- Instructions and pictures to begin with

function suggest({ direct, reasoning }) {
  // What was suggested for another picture makes no sense of this one.
  const old = [...document.querySelectorAll(".suggestions button")].map((each) => each.textContent);
  const { value } = $("prompt");
  if (old.includes(value) && ![...direct, ...reasoning].includes(value)) $("prompt").value = "";
  for (const [id, texts] of Object.entries({ direct, reasoning })) {
    $(id).replaceChildren(...texts.map((text) => listed(text, () => {
      $("prompt").value = text;
      fail("prompt");
      $("prompt").focus();
    })));
  }
}

function listed(content, clicked) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.append(content);
  button.addEventListener("click", clicked);
  item.append(button);
  return item;
}

function offer() {
  $("examples").append(...EXAMPLES.map((example) => {
    const image = document.createElement("img");
    image.src = example.file;
    image.alt = example.alt;
    return listed(image, async () => {
      const from = new URL(example.file, document.baseURI).href;
      const blob = await (await fetch(from)).blob();
      await open(blob, example.file, { alt: example.alt, from });
      $("prompt").value = example.reasoning[0];
    });
  }));
}

// ---- Events

function take(list) {
  const file = [...(list ?? [])].find(({ type }) => type.startsWith("image/")) ?? list?.[0];
  if (file) open(file, file.name || "picture.png");
  return Boolean(file);
}

$("image").addEventListener("change", ({ target }) => {
  take(target.files);
  target.value = ""; // the same file may be chosen again
});
addEventListener("paste", (event) => {
  // A word processor puts a picture of the words beside them.
  if (event.target.matches("input, textarea") && event.clipboardData.types.includes("text/plain")) return;
  if (take(event.clipboardData?.files)) event.preventDefault();
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragged");
});
for (const name of ["dragleave", "drop"]) {
  addEventListener(name, (event) => {
    if (name === "drop" || !event.relatedTarget) document.body.classList.remove("dragged");
  });
}
addEventListener("drop", (event) => {
  event.preventDefault();
  if (!take(event.dataTransfer?.files)) fail("image", "That is no file; save the picture and drop it then.");
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) stop();
});

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  run();
});
$("stop").addEventListener("click", stop);
$("further").addEventListener("click", further);
$("back").addEventListener("click", () => show(null));
$("reuse").addEventListener("click", () => {
  $("seed").value = shown.seed;
  $("settings").open = true;
  $("seed").focus();
});
$("model").addEventListener("change", settle);
$("defaults").addEventListener("click", () => {
  $("seed").value = "";
  settle();
});
$("key-save").addEventListener("click", useKey);
$("key").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  useKey();
});

$("mask-toggle").addEventListener("click", ({ target }) => {
  paint(target.getAttribute("aria-pressed") !== "true");
});
$("erase").addEventListener("click", () => erase(!mask.erases));
$("clear").addEventListener("click", () => mask.clear());
$("brush-size").addEventListener("input", ({ target }) => (mask.size = target.value / 100));

$("curl").addEventListener("click", () => showCurl(shown.request, shown.seed, Boolean(key())));

suggest(ANY);
offer();
readLimits().catch(complain);
readModels();
