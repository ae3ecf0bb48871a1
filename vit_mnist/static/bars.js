// Bars: the probability of each class, and beside it what it was before something was changed.

import { h } from "./dom.js";
import { percent } from "./words.js";
import { mostOf } from "./tokens.js";

export function classBars(classes, label) {
  const rows = classes.map((name) => {
    const fill = h("div", { class: "panel-fill" }),
      line = h("div", { class: "panel-before", hidden: "" }),
      text = h("td");
    const track = h("td", { class: "panel-track-cell" }, h("div", { class: "panel-track" }, fill, line));
    return { row: h("tr", {}, h("th", { scope: "row" }, name), track, text), fill, line, text };
  });
  const node = h("table", { class: "panel-bars", "aria-label": label }, h("tbody", {}, ...rows.map(({ row }) => row)));
  return {
    node,
    show(now, before = null) {
      // probabilities, [classes]; null: nothing is known
      node.classList.toggle("panel-unseen", !now);
      if (!now) return;
      const said = mostOf(now);
      rows.forEach(({ row, fill, line, text }, i) => {
        row.classList.toggle("panel-first", i === said);
        fill.style.width = `${100 * now[i]}%`;
        line.hidden = !before;
        if (before) line.style.left = `calc(${100 * before[i]}% - 1px)`;
        text.textContent = before ? `${percent(before[i])} → ${percent(now[i])}` : percent(now[i]);
      });
    },
  };
}
