// A button, and the words and signs that it explains.

import { diverging, sequential } from "./colours.js";
import { h } from "./dom.js";
import { LEGEND, LOGIT, METHOD_TERMS, TERMS } from "./words.js";

export function help(data) {
  const deep = data.layers.length > 0, drawing = data.images.some((image) => image.drawing);
  const others = data.methods.filter((m) => m.name !== "attention");
  const methods = others.map((m) => [m.title, METHOD_TERMS[m.name] ?? `${m.about}.`]);
  const terms = [...(deep ? TERMS : []), ...methods, LOGIT];
  const ramp = { scale: `background: ${sequential.css}`, diverging: `background: ${diverging.css}` };
  const signs = LEGEND.filter(([, , only]) => !only || drawing);
  const place = "Layers, heads, rows, columns and images are counted from 0, as in Python: "
    + "explorer.query = (2, 5) is row 2, column 5.";
  const heads = " A head that is switched off hands on nothing: the prediction is the model's without it.";
  const name = { id: "help", "data-control": "help-text", "aria-label": "Words and signs" };
  const text = h("section", { class: "help", hidden: "", ...name },
    h("h4", {}, "Words"),
    h("dl", {}, ...terms.map(([word, sentence]) => h("div", {}, h("dt", {}, word), ": ", h("dd", {}, sentence)))),
    h("h4", {}, "Signs"),
    h("ul", {}, ...signs.map(([style, sentence]) =>
      h("li", {}, h("span", { class: "swatch", style: ramp[style] ?? style }), sentence))),
    ...(deep ? [h("p", {}, place, data.live ? heads : "")] : []));
  const press = () => {
    text.hidden = !text.hidden;
    button.setAttribute("aria-expanded", !text.hidden);
  };
  const states = { "aria-expanded": "false", "aria-controls": "help" };
  const button = h("button", { "data-control": "help", ...states, onclick: press }, "Help");
  return { button, text };
}
