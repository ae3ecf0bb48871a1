// A canvas with the numbers of columns above it and of rows beside it, counted from 0, as in Python.

import { h } from "./dom.js";

export function withAxes(name, canvas, ...over) {
  const strip = (axis) => h("div", { class: "numbers", "aria-hidden": "true", "data-axis": `${name}-${axis}` });
  const strips = [strip("columns"), strip("rows")], frame = h("div", {}, canvas, ...over);
  let known = null;

  // Where there are many cells, only some are numbered. `whole`: the border around the image that the canvas shows.
  const number = (image, pad, grid, whole) => {
    const shown = JSON.stringify([image.side, pad, grid]);
    if (known === shown) return;
    known = shown;
    strips.forEach((strip, i) => {
      const axis = 1 - i, n = grid?.[axis] ?? 0, side = image.side[axis];
      const every = [1, 2, 5, 10, 20, 50, 100].find((k) => n / k <= 8) ?? n;
      const pixel = (cell) => ((cell + 0.5) * (side + 2 * pad)) / n - pad;
      const share = (at) => (at + whole) / (side + 2 * whole);
      const cells = Array.from({ length: Math.ceil(n / every) }, (_, k) => k * every);
      strip.replaceChildren(...cells.map((cell) =>
        h("span", { style: `${axis ? "left" : "top"}: ${100 * share(pixel(cell))}%` }, String(cell))));
    });
    strips[0].style.width = canvas.style.width;
  };
  return { node: h("div", { class: "axes" }, ...strips, frame), frame, number };
}
