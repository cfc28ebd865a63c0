// Keeps what is shown up to date; without it every page still works, by reloading.
"use strict";

const live = document.getElementById("live");
const banner = document.getElementById("connection");

function tell(text) {
  if (!banner) return;
  banner.textContent = text;
  banner.hidden = !text;
}

// Takes the server's new HTML in, and keeps what is folded open, the focus and the text
// that is being written into a form.
function replace(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").body;
  for (const old of live.querySelectorAll("details[id][open]")) {
    const same = fresh.querySelector("#" + CSS.escape(old.id));
    if (same) same.open = true;
  }
  const scrolls = [...live.querySelectorAll("details[open] pre")].map((pre) => pre.scrollTop);
  const focused = document.activeElement;
  const place = live.contains(focused) ? path(focused) : null;
  live.replaceChildren(...fresh.childNodes);
  [...live.querySelectorAll("details[open] pre")].forEach((pre, number) => {
    pre.scrollTop = scrolls[number] || 0;
  });
  if (place) find(place)?.focus({ preventScroll: true });
  showText();
  announce();
}

// Tells a screen reader what the task has become; its text would be too much.
function announce() {
  const status = live.querySelector(".head .badge")?.textContent.trim() || "";
  if (known !== null && status !== known) document.getElementById("said").textContent = "The task is now " + status;
  known = status;
}

function path(element) {
  if (element.id) return "#" + CSS.escape(element.id);
  const owner = element.closest("[id]");
  const prefix = owner === live ? "" : "#" + CSS.escape(owner.id) + " ";
  return { prefix, tag: element.tagName, text: element.textContent };
}

function find(place) {
  if (typeof place === "string") return document.querySelector(place);
  const scope = place.prefix ? document.querySelector(place.prefix.trim()) : live;
  return [...(scope?.getElementsByTagName(place.tag) || [])].find((each) => each.textContent === place.text);
}

function isBusy() {
  const element = document.activeElement;
  const writes = element && live.contains(element) && element.matches("input, select, textarea");
  return writes || !window.getSelection().isCollapsed;
}

let shown = "";
let known = null;
let text = "";
let asking = false;
let again = false;

async function refresh(force) {
  if (asking) { again = true; return; }
  if (!force && (document.hidden || isBusy())) return;
  asking = true;
  try {
    const answer = await fetch(live.dataset.refresh, { headers: { "X-Part": "1" } });
    if (answer.redirected || answer.status === 401) { location.reload(); return; }
    if (!answer.ok) throw new Error(answer.status);
    const html = await answer.text();
    tell("");
    if (html !== shown && !isBusy()) { replace(html); shown = html; }
  } catch {
    tell("The service does not answer; what is shown may be old. Trying again…");
  } finally {
    asking = false;
    if (again) { again = false; refresh(force); }
  }
}

function poll() {
  const every = Number(live.dataset.every) * 1000;
  setInterval(() => refresh(false), every);
  document.addEventListener("visibilitychange", () => refresh(false));
}

// A task: its text is appended as it arrives, all else is asked for when it happens.
function follow() {
  announce();
  if (live.dataset.ended === "yes") return;
  text = document.getElementById("live-text")?.textContent || "";
  const source = new EventSource(live.dataset.events + "?after=" + live.dataset.after);
  let due = null;
  const soon = () => { due ??= setTimeout(() => { due = null; refresh(true); }, 150); };
  const types = live.dataset.types.split(" ");
  for (const type of types) source.addEventListener(type, (message) => {
    tell("");
    const event = JSON.parse(message.data);
    if (type === "text.delta") { text += event.data.delta || ""; showText(); return; }
    if (["part.added", "text.done", "task.started", "task.released"].includes(type)) { text = ""; showText(); }
    soon();
    if (["task.completed", "task.failed", "task.cancelled", "task.timed_out"].includes(type)) source.close();
  });
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) { soon(); return; }
    tell("The connection was cut; it goes on where it was as soon as the service answers.");
  };
  source.onopen = () => tell("");
  // The end event may be missed while the service is away.
  setInterval(() => { if (source.readyState === EventSource.CLOSED && !isOver()) refresh(false); }, 3000);
  setInterval(() => { if (!isOver()) refresh(false); }, 5000);
}

function isOver() {
  return live.querySelector("[data-ended]")?.dataset.ended === "yes";
}

// What the model says just now: what came with the page and all that arrived since.
function showText() {
  const place = document.getElementById("live-text");
  if (!place || !live.dataset.events) return;
  if (text.startsWith(place.textContent)) place.append(text.slice(place.textContent.length));
  else place.textContent = text;
  document.getElementById("live-section").hidden = !text;
}

for (const form of document.querySelectorAll("form[data-filter]")) {
  form.addEventListener("change", (event) => { if (event.target.matches("select")) form.requestSubmit(); });
}
if (live?.dataset.events) follow();
else if (live?.dataset.every) poll();
