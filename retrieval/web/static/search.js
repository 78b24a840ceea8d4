"use strict";
// What plain forms cannot do: drop, paste, a box that is dragged, answers that follow the filters.

document.documentElement.classList.add("js");

function send(file) {
  const form = document.querySelector("form[data-upload]");
  if (!form || !file) return;
  const files = new DataTransfer();
  files.items.add(file);
  const input = form.querySelector("input[type=file]");
  input.files = files.files;
  form.requestSubmit();
}

for (const form of document.querySelectorAll("form[data-upload]")) {
  form.addEventListener("change", () => form.requestSubmit());
  form.addEventListener("submit", () => form.setAttribute("aria-busy", "true"));
  // Back shows this page as it was left: to choose the same file again would be no change.
  addEventListener("pageshow", () => { form.reset(); form.removeAttribute("aria-busy"); });
}

const imageOf = (files) => [...(files || [])].find((file) => file.type.startsWith("image/"));

document.addEventListener("paste", (event) => {
  const file = imageOf(event.clipboardData && event.clipboardData.files);
  if (file) { event.preventDefault(); send(file); }
});

const veil = document.getElementById("veil");
document.addEventListener("dragover", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  veil.hidden = false;
});
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) veil.hidden = true; });
document.addEventListener("drop", (event) => {
  veil.hidden = true;
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  send(imageOf(event.dataTransfer.files));
});

// Filters: the same address as the form's, of which only the answers and the menus are taken.
const controls = document.querySelector("form[data-controls]");
let last = 0;

function addressOf(form) {
  const query = new URLSearchParams(new FormData(form));
  for (const [name, value] of [...query]) if (!value || (name === "k" && value === "20")) query.delete(name);
  return form.action + "?" + query;
}

async function update() {
  const results = document.getElementById("results");
  const address = addressOf(controls);
  const turn = ++last;
  results.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(address, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (turn !== last) return;
    const found = page.getElementById("results");
    if (!found) { location.assign(address); return; }
    results.replaceChildren(...found.childNodes);
    document.title = page.title;
    const models = page.getElementById("model");
    if (models) {
      const menu = document.getElementById("model");
      const chosen = models.value; // options that leave a menu make it choose the next one
      menu.replaceChildren(...models.childNodes);
      menu.value = chosen;
    }
    history.replaceState(null, "", address);
  } catch {
    location.assign(address);
  } finally {
    results.setAttribute("aria-busy", "false");
  }
}

if (controls) {
  controls.addEventListener("submit", (event) => { event.preventDefault(); update(); });
  controls.addEventListener("change", (event) => {
    if (event.target.id === "make" && event.target.value) controls.elements.model.value = "";
    update();
  });
  for (const button of controls.querySelectorAll("[data-clear]")) {
    button.addEventListener("click", () => {
      const field = controls.elements[button.dataset.clear];
      if (field.value) { field.value = ""; show(); update(); }
      field.focus();
    });
  }
  if (matchMedia("(max-width: 54rem)").matches) controls.querySelector("[data-folds]").open = false;
}

// The box: dragged on the photo or typed in the field, in pixels of the photo as sent.
const figure = document.querySelector("[data-box]");
const frame = figure && figure.querySelector(".frame");
const box = figure && figure.querySelector(".box");
const field = controls && controls.elements.box;

function show() {
  if (!field || !box) return;
  const corners = field.value.split(",").map(Number);
  const isBox = corners.length === 4 && corners.every(Number.isFinite) && field.value.trim() !== "";
  box.hidden = !isBox;
  if (!isBox) return;
  const [x1, y1, x2, y2] = corners;
  const percent = (value, whole) => `${(100 * value) / whole}%`;
  const { width, height } = figure.dataset;
  box.style.left = percent(x1, width);
  box.style.top = percent(y1, height);
  box.style.width = percent(x2 - x1, width);
  box.style.height = percent(y2 - y1, height);
}

if (figure && field) {
  let from = null;
  const point = (event) => {
    const rim = frame.getBoundingClientRect();
    const part = (value, start, length, whole) =>
      Math.round(Math.min(Math.max((value - start) / length, 0), 1) * whole);
    return [
      part(event.clientX, rim.left, rim.width, figure.dataset.width),
      part(event.clientY, rim.top, rim.height, figure.dataset.height),
    ];
  };
  let before = "";
  frame.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    from = point(event);
    before = field.value;
    frame.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  frame.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = point(event);
    const xs = [from[0], to[0]].sort((a, b) => a - b);
    const ys = [from[1], to[1]].sort((a, b) => a - b);
    field.value = [xs[0], ys[0], xs[1], ys[1]].join(",");
    show();
  });
  const end = (isDone) => () => {
    if (!from) return;
    from = null;
    const [x1, y1, x2, y2] = field.value.split(",").map(Number);
    const isLarge = x2 - x1 >= 8 && y2 - y1 >= 8; // smaller is a click
    if (!isDone || !isLarge) field.value = before;
    show();
    if (field.value !== before) update();
  };
  frame.addEventListener("pointerup", end(true));
  frame.addEventListener("pointercancel", end(false));
  field.addEventListener("input", show);
  show();
}
