// A board of switches in rows and columns. One of them is reached by Tab, the others from there by the arrow keys.

import { h } from "./dom.js";

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

export function board({ rows, columns, label, name, press, text = () => "" }) {
  const knobs = Array.from({ length: rows * columns }, (_, i) =>
    h(
      "button",
      {
        role: "switch",
        "data-knob": i,
        tabindex: i ? -1 : 0,
        onclick: () => press(i),
        onfocus: () => {
          for (const knob of knobs) knob.tabIndex = knob === knobs[i] ? 0 : -1;
        },
      },
      text(i),
    ),
  );
  function move(event) {
    const way = MOVES[event.key],
      at = knobs.indexOf(event.target);
    if (!way || at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = Math.floor(at / columns) + way[0],
      column = (at % columns) + way[1];
    if (row >= 0 && row < rows && column >= 0 && column < columns) knobs[row * columns + column].focus();
    event.preventDefault();
    event.stopPropagation();
  }
  const node = h(
    "div",
    { class: "panel-board", role: "group", "aria-label": label, style: `--columns: ${columns}`, onkeydown: move },
    ...knobs,
  );
  return {
    node,
    show(isOn) {
      // isOn(i): is switch i on?
      knobs.forEach((knob, i) => {
        knob.setAttribute("aria-checked", isOn(i));
        knob.setAttribute("aria-label", name(i));
      });
    },
  };
}
