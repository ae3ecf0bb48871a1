// <vit-panel>: one panel by itself, with the model in the page. The notebook of the panels shows each in such an
// element.
//
// Its data lies in a JSON script inside it: { panel, pixels, state, faithfulness, snapshots }. The weights, in base64,
// are brought by one of a page's elements and serve them all.

import { h } from "./dom.js";
import { define } from "./meet.js";
import { ModelSource } from "./model.js";
import { fromText } from "./sources.js";
import { PANELS } from "./panels.js";
import { PANEL_STYLE } from "./panel_style.js";
import { isStill, transformImage } from "./transform.js";
import { fitState } from "./share.js";

const STYLE = `
  :host { display: block; font: 14px/1.45 system-ui, sans-serif; max-width: 960px; }
  * { box-sizing: border-box; }
  h3 { font-size: 15px; margin: 4px 0; }
`;

let shared = null; // the model, once for all elements of a page
function sharedSource() {
  const script = document.querySelector("vit-panel > script[data-weights]");
  if (!script) throw new Error("The weights that this panel needs are not in the page.");
  return (shared ??= new ModelSource({ weights: script.textContent }));
}

class VitPanel extends HTMLElement {
  #pixels;
  #panel;
  #host;
  #state;

  connectedCallback() {
    if (this.shadowRoot) return;
    const data = JSON.parse(this.querySelector(':scope > script[type="application/json"]').textContent),
      root = this.attachShadow({ mode: "open" });
    root.append(h("style", {}, STYLE + PANEL_STYLE));
    let source = null;
    try {
      source = sharedSource();
    } catch (error) {
      return root.append(error.message);
    }
    const forward = (pixels, options) => source.forward(pixels, options);
    const set = (changes) => {
      this.state = { ...this.state, ...changes };
    };
    this.#host = { model: source.model, data, forward, set };
    this.#panel = PANELS.map((make) => (make.name === `${data.panel}Panel` ? make(this.#host) : null)).find(Boolean);
    this.#pixels = data.pixels && fromText(data.pixels);
    this.setAttribute("data-lm-suppress-shortcuts", "true"); // a notebook must not take the keys
    root.append(
      h(
        "section",
        { "aria-label": this.#panel.title },
        h("h3", {}, this.#panel.title),
        h("p", { class: "panel-about" }, this.#panel.about),
        this.#panel.node,
      ),
    );
    this.state = data.state ?? {};
  }

  get view() {
    const { off, empty, move } = this.state,
      drawn = this.#pixels,
      { forward } = this.#host;
    const pixels = drawn && (isStill(move) ? drawn : transformImage(drawn, move)),
      whole = pixels && forward(pixels);
    return {
      drawn,
      pixels,
      whole,
      result: off.length || empty.length ? pixels && forward(pixels, { off, empty }) : whole,
      state: this.state,
    };
  }
  set state(state) {
    this.#state = fitState(state, this.#host.model);
    this.#panel.show(this.view);
  }
  get state() {
    return this.#state;
  }
  set pixels(pixels) {
    // Uint8Array(784), or null for a blank pad
    this.#pixels = pixels;
    this.#panel.show(this.view);
  }
  get panel() {
    return this.#panel;
  }
  get host() {
    return this.#host;
  }
}

define("vit-panel", VitPanel);
