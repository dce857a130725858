"use strict";
// The page that asks. An answer goes into a queue that outlives the page, is sent until the server says that it is on
// disk, and has a key of its own, so that sending it twice does no harm, nor from two tabs of one browser. Meanwhile the
// next image is there already.

const state = JSON.parse(document.getElementById("state").textContent);
const element = (id) => document.getElementById(id);
const [stage, back, pause, count, progress, question, spoken, next, interlude] =
  ["stage", "back", "pause", "count", "progress", "question", "spoken", "next", "interlude"].map(element);
const asked = question.textContent;
const answers = [...element("answers").children];
const frames = [...stage.querySelectorAll(".frame")];
const BETWEEN = 16; // CSS pixels between images, at least; as in the style sheet
const prefix = `mos ${state.address} `; // of what this browser keeps for this rater

const trials = new Map(); // position to {position, example, images, value, revision}
const pictures = new Map(); // address to a promise of a decoded image
let position = state.start; // of what is shown
let shownAt = 0; // 0 while nothing may be answered
let queue = unsent(); // answers that the server has not confirmed
let sending = false;
let outdated = false; // another device or tab has gone on meanwhile
let feedback = null; // waits for the server's word on an example
let following = 0; // timer
let hint = ""; // after the question
let leaving = false; // another page is on its way

// --- images -----------------------------------------------------------------------------------------------------

function learn(found) {
  for (const trial of found) {
    const waiting = queue.findLast((answer) => answer.position === trial.position);
    if (waiting) Object.assign(trial, { value: waiting.value, revision: waiting.replaces + 1 });
    trials.set(trial.position, trial);
    trial.images.forEach(load);
  }
  for (const known of [...trials.keys()]) {
    if (known < position - 2) {
      trials.get(known).images.forEach((address) => pictures.delete(address));
      trials.delete(known);
    }
  }
}

function load(address) {
  if (!pictures.has(address)) {
    const image = new Image();
    image.draggable = false;
    image.src = address;
    const ready = image.decode().then(() => image);
    ready.catch(() => pictures.delete(address));
    pictures.set(address, ready);
  }
  return pictures.get(address);
}

// One pixel of an image is one pixel of the screen: its size in CSS pixels is divided by what the browser multiplies
// with, and its corner is moved onto the grid of the screen's pixels, for otherwise the browser would resample it.
function fit() {
  const ratio = window.devicePixelRatio;
  const images = [...stage.querySelectorAll("img")];
  for (const image of images) {
    image.style.width = `${image.naturalWidth / ratio}px`;
    image.style.height = `${image.naturalHeight / ratio}px`;
    image.style.left = image.style.top = "0";
  }
  // Where three do not fit side by side, the original stands above the others: beside one of them it would favour it.
  const across = images.reduce((sum, image) => sum + image.naturalWidth / ratio, BETWEEN * (images.length + 1));
  stage.classList.toggle("stacked", across > stage.clientWidth);
  const beyond = stage.scrollWidth > stage.clientWidth || stage.scrollHeight > stage.clientHeight;
  stage.tabIndex = beyond ? 0 : -1; // so that keys alone reach it
  hint = beyond ? " Scroll to see all." : "";
  if (question.textContent.startsWith(asked)) say("");
  for (const image of images) {
    const box = image.getBoundingClientRect();
    image.style.left = `${(Math.round(box.left * ratio) - box.left * ratio) / ratio}px`;
    image.style.top = `${(Math.round(box.top * ratio) - box.top * ratio) / ratio}px`;
  }
}

// --- one trial after another ------------------------------------------------------------------------------------

async function show(place) {
  shownAt = 0;
  position = place;
  enable();
  if (position >= state.total) {
    finish();
    return;
  }
  let trial = trials.get(position);
  let images;
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      if (!trial) {
        if (!queue.some((answer) => answer.position < position)) trial = await ask(`trials/${position}`);
        else throw new Error("not answered yet");
        learn([trial]);
      }
      images = await Promise.all(trial.images.map(load));
      break;
    } catch {
      if (position !== place) return;
      say("Waiting for the next image ...");
      await new Promise((resolve) => setTimeout(resolve, wait));
      trial = trials.get(position);
    }
  }
  if (position !== place) return;
  if (!queue.length) say("");
  frames.forEach((frame) => {
    const image = images[Number(frame.dataset.part || 0)];
    const name = frame.textContent.trim();
    image.alt = name || (trial.example ? "Example" : `Image ${ordinal()}`);
    frame.querySelector("img")?.remove();
    frame.append(image);
  });
  stage.scrollTo(0, 0);
  fit();
  tell(trial);
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))); // it is on the screen
  if (position !== place) return;
  shownAt = performance.now();
  enable();
}

const isExample = (place) => place < state.examples;
const ordinal = () => (isExample(position) ? position + 1 : position - state.examples + 1);
const ofAll = () => (isExample(position) ? state.examples : state.total - state.examples);

function tell(trial) {
  progress.max = ofAll();
  progress.value = ordinal() - 1;
  count.textContent = `${trial.example ? "Example " : ""}${ordinal()} of ${ofAll()}`;
  const word = trial.value ? `; you answered ${label(trial.value)}` : "";
  spoken.textContent = `${trial.example ? "Example" : "Image"} ${ordinal()} of ${ofAll()}${word}`;
  answers.forEach((button) => button.setAttribute("aria-pressed", String(Number(button.value) === trial.value)));
}

const label = (value) => (state.mode === "pair" ? "AB"[value - 1] : `${value}, ${state.scale[value - 1].toLowerCase()}`);

function enable() {
  const ready = shownAt > 0 && !feedback;
  answers.forEach((button) => (button.disabled = !ready));
  back.disabled = !ready || position === 0 || position === state.examples;
}

function answer(value) {
  if (!shownAt || feedback || interlude.open) return;
  const trial = trials.get(position);
  const milliseconds = Math.min(86400000, Math.round(performance.now() - shownAt));
  shownAt = 0;
  const replaces = trial.revision;
  const given = { key: newKey(), position, value, milliseconds, pixel_ratio: window.devicePixelRatio, replaces };
  queue.push(given);
  keep(given);
  Object.assign(trial, { value, revision: replaces + 1 });
  answers.forEach((button) => button.setAttribute("aria-pressed", String(Number(button.value) === value)));
  if (trial.example) feedback = { position, value };
  enable();
  send();
  if (!trial.example) show(position + 1);
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// An example teaches: who finds its grade goes on at once, who does not is told and looks again.
function teach(expected) {
  const right = feedback.value === expected;
  const what = state.mode === "pair" ? `${label(expected)} is the ${state.question} one.` : `This is an example of ${label(expected)}.`;
  say(right ? `Yes. ${what}` : what);
  if (right) setTimeout(goOn, 900);
  else {
    next.hidden = false;
    answers.forEach((button) => (button.style.visibility = "hidden"));
    next.focus();
  }
}

function goOn() {
  const after = feedback.position + 1;
  feedback = null;
  next.hidden = true;
  answers.forEach((button) => (button.style.visibility = ""));
  say("");
  if (after === state.examples) begin(after);
  else show(after);
}
next.onclick = goOn;

function begin(after) {
  const what = `Now ${state.total - state.examples} ${state.mode === "pair" ? "pairs" : "images"} follow`;
  const rating = "of any grade, also in between. By your first impression: there is no right or wrong.";
  const pair = "with smaller differences. Where you cannot tell, guess.";
  open("That was practice", `${what}, ${state.mode === "pair" ? pair : rating}`, "Begin");
  show(after);
}

// --- sending ----------------------------------------------------------------------------------------------------

async function ask(what, body) {
  const options = { headers: { Accept: "application/json" } };
  if (body) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const response = await fetch(`${state.address}/${what}`, options);
  if (!response.ok) throw Object.assign(new Error("refused"), { status: response.status });
  return response.json();
}

async function send() {
  adopt();
  if (sending) return;
  sending = true;
  for (let wait = 500; queue.length; ) {
    const sent = queue[0];
    try {
      const receipt = await ask("ratings", sent);
      drop([sent]);
      wait = 500;
      if (!feedback) say("");
      state.done = Math.max(state.done, receipt.done);
      learn(receipt.trials.filter((trial) => !trials.has(trial.position)));
      if (feedback && feedback.position === sent.position) teach(receipt.expected);
    } catch (error) {
      if ([404, 409, 422].includes(error.status)) {
        drop(error.status === 409 ? [sent] : queue); // what was said on another device meanwhile holds
        outdated = true;
        continue;
      }
      say("No connection. Your answers are kept here and will be sent.");
      // Not all at the same moment, when the server is back that all of them miss.
      await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random())));
      wait = Math.min(2 * wait, 8000);
    }
  }
  sending = false;
  if (outdated) location.reload();
  else if (position >= state.total) finish();
}

// Every answer is kept under a name of its own, so that no tab writes over what another one keeps. Where the browser
// keeps nothing, answers live as long as the page.
function unsent() {
  const found = [];
  try {
    for (const name of Object.keys(localStorage)) {
      if (name.startsWith(prefix)) found.push(JSON.parse(localStorage.getItem(name)));
    }
  } catch {
    return found;
  }
  return found.sort(inOrder);
}

// The server takes no answer before that to what comes earlier.
function inOrder(one, other) {
  return one.position - other.position || one.replaces - other.replaces;
}

function keep(answer) {
  try {
    localStorage.setItem(prefix + answer.key, JSON.stringify(answer));
  } catch {
    return;
  }
}

function drop(answers) {
  queue = queue.filter((answer) => !answers.includes(answer));
  if (leaving) return; // that page may have been made before these were kept, and learns of them by sending them again
  try {
    answers.forEach((answer) => localStorage.removeItem(prefix + answer.key));
  } catch {
    return;
  }
}

// Take over what another tab keeps: it may have been closed before it could send. The server keeps once what both send.
function adopt() {
  const known = new Set(queue.map((answer) => answer.key));
  const found = unsent().filter((answer) => !known.has(answer.key));
  if (!found.length) return;
  queue = [...found, ...queue].sort(inOrder);
  outdated = true;
}

function catchUp() {
  if (document.hidden) return; // until somebody looks
  adopt();
  if (queue.length) send();
  else if (outdated) location.reload();
}

function finish() {
  if (queue.length) send();
  else location.replace(state.address);
}

// Stands where the question stands, so that nothing on the page moves.
function say(text) {
  question.textContent = text || asked + hint;
  if (text) spoken.textContent = text;
}

// --- pausing ----------------------------------------------------------------------------------------------------

function open(title, text, button) {
  element("interlude-title").textContent = title;
  element("interlude-text").textContent = text;
  element("resume").textContent = button;
  interlude.showModal();
}

function takeBreak() {
  if (interlude.open) return;
  open("Paused", "Your answers are kept. Go on when you like, here or by your link on another device.", "Go on");
}

interlude.addEventListener("close", () => {
  if (shownAt) shownAt = performance.now(); // a break is no hesitation
});
element("resume").onclick = () => interlude.close();
pause.onclick = takeBreak;

function undo() {
  if (!back.disabled && !interlude.open) show(position - 1);
}
back.onclick = undo;

// --- clicks, touches and keys -----------------------------------------------------------------------------------

answers.forEach((button) => (button.onclick = () => answer(Number(button.value))));
for (const frame of frames) {
  const part = Number(frame.dataset.part || 0);
  if (state.mode === "pair" && part < 2) frame.addEventListener("click", () => answer(part + 1));
}
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || interlude.open) return;
  const key = event.key.toLowerCase();
  const sides = { 1: 1, 2: 2, a: 1, b: 2, arrowleft: 1, arrowright: 2 };
  const value = state.mode === "pair" ? sides[key] : /^[1-5]$/.test(key) ? Number(key) : undefined;
  if (value) answer(value);
  else if (key === "backspace") undo();
  else if (key === "p") takeBreak();
  else return;
  event.preventDefault();
});
document.addEventListener("contextmenu", (event) => event.target.tagName === "IMG" && event.preventDefault());
window.addEventListener("resize", fit);
new ResizeObserver(fit).observe(stage); // as when what is said below takes another line
window.addEventListener("online", send);
window.addEventListener("beforeunload", () => (leaving = true));
document.addEventListener("visibilitychange", catchUp);
// Another tab's answer is kept: this one shows what that one shows, unless it is answering at this moment.
window.addEventListener("storage", (event) => {
  if (!event.key?.startsWith(prefix) || event.newValue !== null) return;
  outdated = true;
  clearTimeout(following);
  following = setTimeout(catchUp, 1000);
});
// A page that the browser kept for its back button may be older than what is known now.
window.addEventListener("pageshow", (event) => event.persisted && location.reload());

learn(state.trials);
if (queue.length) send();
show(Math.max(position, ...queue.map((answer) => answer.position + 1)));
