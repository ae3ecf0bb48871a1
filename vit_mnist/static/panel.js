// <vit-panel>: one panel by itself, with the model in the page. The notebook of the panels shows each in such an
// element.
//
// Its data lies in a JSON script inside it: { panel, pixels, state, faithfulness, snapshots }. The weights, in base64,
// are brought by one of a page's elements and serve them all.

import { h } from "./dom.js";
import { ViT } from "./vit.js";
import { PANELS } from "./panels.js";
import { PANEL_STYLE } from "./panel_style.js";
import { isStill, transformImage } from "./transform.js";
import { fitState } from "./share.js";

const toBytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const STYLE = `
  :host { display: block; container-type: inline-size; font: 14px/1.45 system-ui, sans-serif; max-width: 960px; }
  * { box-sizing: border-box; }
  h3 { font-size: 15px; margin: 4px 0; }
`;

// The masks of a forward pass, from lists of what is off and empty.
export function masks(model, { off = [], empty = [] }) {
  const heads = Array.from({ length: model.depth }, () => new Float32Array(model.heads).fill(1));
  for (const [layer, head] of off) heads[layer][head] = 0;
  const patches = new Float32Array(model.patches).fill(1);
  for (const patch of empty) patches[patch] = 0;
  return { heads, patches };
}

let shared = null; // the model, once for all elements of a page
function sharedModel() {
  const script = document.querySelector("vit-panel > script[data-weights]");
  return (shared ??= script && new ViT(toBytes(script.textContent)));
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
    let model = null;
    try {
      model = sharedModel();
    } catch (error) {
      return root.append(error.message);
    }
    if (!model) return root.append("The weights that this panel needs are not in the page.");
    const forward = (pixels, { off, empty, model: other = model } = {}) =>
      other.forward(pixels, masks(other, { off, empty }));
    this.#host = {
      model,
      data,
      forward,
      set: (changes) => {
        this.state = { ...this.state, ...changes };
      },
    };
    this.#panel = PANELS.map((make) => (make.name === `${data.panel}Panel` ? make(this.#host) : null)).find(Boolean);
    this.#pixels = data.pixels && toBytes(data.pixels);
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

if (!customElements.get("vit-panel")) customElements.define("vit-panel", VitPanel);
