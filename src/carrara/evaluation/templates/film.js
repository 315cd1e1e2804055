"use strict";
// Plays the films of texts on this page. Texts are only ever put in as text.
const HIDDEN = "▁";
const SECONDS = 8;

// Which code units of `after` are shown there and were hidden in `before`.
function fresh(before, after) {
  const found = new Array(after.length).fill(false);
  if (before.length === after.length) {
    return found.map((_, i) => before[i] === HIDDEN && after[i] !== HIDDEN);
  }
  // Tokens of several characters: what showed before is found again, in its order, and what lies between is new.
  const parts = before.split(/▁+/);
  let at = 0;
  for (const [index, part] of parts.entries()) {
    const last = index === parts.length - 1;
    const start = part === "" ? (last ? after.length : at) : last ? after.lastIndexOf(part) : after.indexOf(part, at);
    if (start < at) return new Array(after.length).fill(false);
    found.fill(true, at, start);
    at = start + part.length;
  }
  return found;
}

// The text in runs: what is hidden, what is new, and the rest.
function put(place, text, before) {
  const marks = before === null ? [] : fresh(before, text);
  const kind = (i) => (text[i] === HIDDEN ? "hidden" : marks[i] ? "new" : "");
  place.replaceChildren();
  for (let i = 0; i < text.length; ) {
    let end = i + 1;
    while (end < text.length && kind(end) === kind(i)) end += 1;
    const run = document.createElement("span");
    run.className = kind(i);
    run.textContent = text.slice(i, end);
    place.append(run);
    i = end;
  }
}

function film(figure) {
  const { times, texts, steps } = JSON.parse(figure.dataset.film);
  const [button, slider, output] = figure.querySelector(".controls").children;
  const places = ["x", "x0"].map((side) => figure.querySelectorAll("pre." + side));
  let timer = null;

  function show() {
    const step = Number(slider.value);
    for (const side of [0, 1]) {
      places[side].forEach((place, k) => {
        const before = side === 0 && step > 0 ? texts[steps[step - 1][0][k]] : null;
        put(place, texts[steps[step][side][k]], before);
      });
    }
    output.textContent = `step ${step} of ${times.length - 1}, t = ${times[step].toFixed(2)}`;
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }
  function next() {
    slider.value = Number(slider.value) + 1;
    show();
    if (slider.value === slider.max) stop();
  }
  function play() {
    if (slider.value === slider.max) slider.value = 0;
    show();
    button.textContent = "Pause";
    timer = setInterval(next, Math.min(500, (1000 * SECONDS) / times.length));
  }
  button.addEventListener("click", () => (timer === null ? play() : stop()));
  slider.addEventListener("input", () => {
    stop();
    show();
  });
  figure.querySelector(".controls").hidden = times.length < 2;
  show();
}

document.querySelectorAll("figure.takes").forEach(film);
