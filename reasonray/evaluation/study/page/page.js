// One question after the other. What is asked and what was answered is the server's to know: a page
// that is opened again goes on where this one was.

const $ = (id) => document.getElementById(id);

// A second tap of a double one would fall on the next question's picture.
const SETTLING_MS = 350;
const PATIENCE_MS = 15_000;
const LONGEST_WAIT_MS = 8_000;
// What a proxy says that is busy.
const PASSING = [408, 425, 429];

// {task, instruction, before, candidates: [name], answer: name or null}
let tasks = [];
let current = 0;
// Whether pictures are on their way, or an answer.
let busy = true;
let saving = false;
// Counts what was shown, so that what is late knows that it is.
let turn = 0;

class Refused extends Error {}

const address = (name) => `pictures/${name}`;
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (text) => ($("status").textContent = text);

/** Ask the server until it answers; what it refuses is final. */
async function persistently(path, options, trouble) {
  for (let pause = 500; ; pause = Math.min(2 * pause, LONGEST_WAIT_MS)) {
    let reply = null;
    try {
      reply = await fetch(path, { ...options, signal: AbortSignal.timeout(PATIENCE_MS) });
      if (reply.ok) {
        const content = await reply.json();
        say("");
        return content;
      }
    } catch {
      // It is away, or was cut off; another try does no harm.
      reply = null;
    }
    if (reply && reply.status < 500 && !PASSING.includes(reply.status)) {
      const { error } = await reply.json().catch(() => ({}));
      throw new Refused(error ?? `The server says ${reply.status}.`);
    }
    say(trouble);
    await wait(pause);
  }
}

/** The pictures of a question, loaded; null where one cannot be. */
async function loaded(task) {
  const images = [task.before, ...task.candidates].map((name) => {
    const image = new Image();
    image.src = address(name);
    return image;
  });
  try {
    await Promise.all(images.map((image) => image.decode()));
    return images;
  } catch {
    return null;
  }
}

async function show(index) {
  const mine = ++turn;
  current = index;
  busy = true;
  const task = tasks[index];
  $("done").hidden = true;
  $("question").hidden = false;
  $("instruction").textContent = task.instruction;
  draw(task);
  count();
  let images = await loaded(task);
  for (let pause = 500; !images; pause = Math.min(2 * pause, LONGEST_WAIT_MS)) {
    if (turn !== mine) return;
    say("The pictures are not all here yet. Trying again …");
    await wait(pause);
    images = await loaded(task);
  }
  if (turn !== mine) return;
  say("");
  const [before] = images;
  document.documentElement.style.setProperty("--share", before.naturalWidth / before.naturalHeight);
  for (const image of document.querySelectorAll("#question img")) image.src = address(image.dataset.name);
  await wait(SETTLING_MS);
  if (turn !== mine) return;
  busy = false;
  for (const button of document.querySelectorAll(".picture")) button.disabled = false;
  scrollTo(0, 0);
  $("instruction").focus({ preventScroll: true });
  if (index + 1 < tasks.length) loaded(tasks[index + 1]); // so that it is here by then
}

function draw(task) {
  const image = $("before").firstElementChild;
  image.removeAttribute("src");
  image.dataset.name = task.before;
  $("candidates").replaceChildren(...task.candidates.map((name, place) => candidate(task, name, place)));
  const columns = Math.ceil(Math.sqrt(task.candidates.length));
  const rows = Math.ceil(task.candidates.length / columns);
  document.documentElement.style.setProperty("--columns", columns);
  document.documentElement.style.setProperty("--rows", rows);
  const last = Math.min(9, task.candidates.length);
  $("hint").textContent = `Keys: 1 to ${last} choose, ← and → go back and on, Z enlarges.`;
}

function candidate(task, name, place) {
  const picture = document.createElement("button");
  const image = document.createElement("img");
  const number = document.createElement("span");
  picture.type = "button";
  picture.className = "picture";
  picture.disabled = true;
  picture.setAttribute("aria-label", `Picture ${place + 1} is the best`);
  picture.setAttribute("aria-pressed", name === task.answer);
  image.alt = "";
  image.dataset.name = name;
  number.className = "number";
  number.textContent = place + 1;
  picture.append(image, number);
  picture.addEventListener("click", () => pick(place));
  const enlarge = document.createElement("button");
  enlarge.type = "button";
  enlarge.className = "enlarge";
  enlarge.textContent = "enlarge";
  enlarge.setAttribute("aria-label", `Enlarge picture ${place + 1}`);
  enlarge.addEventListener("click", () => enlarged(place + 1));
  const item = document.createElement("li");
  item.append(picture, enlarge);
  return item;
}

function count() {
  const answered = tasks.filter(({ answer }) => answer).length;
  $("progress").max = tasks.length;
  $("progress").value = answered;
  $("count").textContent = `${current + 1} of ${tasks.length}, ${answered} answered`;
  $("back").disabled = current === 0;
  $("on").textContent = tasks[current].answer ? "Next ›" : "Skip ›";
}

async function pick(place) {
  const task = tasks[current];
  const picture = task.candidates[place];
  if (busy || !picture) return;
  busy = saving = true;
  $("large").close();
  const pressed = (name) => {
    for (const [index, item] of [...$("candidates").children].entries()) {
      item.firstElementChild.setAttribute("aria-pressed", task.candidates[index] === name);
    }
  };
  pressed(picture);
  try {
    const body = JSON.stringify({ task: task.task, picture });
    const options = { method: "POST", headers: { "Content-Type": "application/json" }, body };
    await persistently("answers", options, "Not saved yet: the server does not answer. Trying again …");
    task.answer = picture;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    pressed(task.answer);
    say(`Not saved: ${error.message} Please load this page again.`);
    busy = saving = false;
    return;
  }
  saving = false;
  proceed();
}

/** To the next question without an answer, or to the end. */
function proceed() {
  const later = tasks.findIndex(({ answer }, index) => index > current && !answer);
  const next = later < 0 ? tasks.findIndex(({ answer }) => !answer) : later;
  if (next < 0) end();
  else show(next);
}

function end() {
  turn++;
  busy = true;
  $("question").hidden = true;
  $("done").hidden = false;
  $("done").firstElementChild.focus();
}

function step(by) {
  if (saving || $("question").hidden || current + by < 0) return;
  if (current + by < tasks.length) show(current + by);
  else proceed();
}

// ---- One picture, as large as the window

let large = 0;

/** Show one of a question's pictures: 0 is the one before, then the candidates. */
function enlarged(index) {
  if (busy) return;
  const names = [tasks[current].before, ...tasks[current].candidates];
  large = (index + names.length) % names.length;
  $("large-image").src = address(names[large]);
  $("large-name").textContent = large ? `Picture ${large}` : "Before";
  $("large-pick").disabled = !large;
  if (!$("large").open) {
    $("large").showModal();
    // Not by its attribute: where a page has loaded late, the browser complains of it.
    $("large-on").focus();
  }
}

// ---- Events

$("before").addEventListener("click", () => enlarged(0));
$("back").addEventListener("click", () => step(-1));
$("on").addEventListener("click", () => step(1));
$("again").addEventListener("click", () => show(0));
$("large-back").addEventListener("click", () => enlarged(large - 1));
$("large-on").addEventListener("click", () => enlarged(large + 1));
$("large-pick").addEventListener("click", () => pick(large - 1));
$("large-close").addEventListener("click", () => $("large").close());

addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || $("question").hidden) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) $("large").open ? enlarged(large + by) : step(by);
  else if (/^[1-9]$/.test(event.key)) pick(Number(event.key) - 1);
  else if (event.key === "z" || event.key === "Z") enlarged(0);
  else return;
  event.preventDefault();
});
addEventListener("beforeunload", (event) => {
  if (saving) event.preventDefault();
});

try {
  tasks = await persistently("questions", { cache: "no-store" }, "The server does not answer. Trying again …");
  current = -1;
  proceed();
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  say(error.message);
}
