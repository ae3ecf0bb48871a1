// Elements of a page and what they wait for, by name, whichever of them comes first: widgets of running kernels, and
// kinds of sources. Two outputs of one page bring this file twice, so both lists belong to the page.

export const widgets = (globalThis.vitWidgets ??= new Map());
export const kinds = (globalThis.vitSources ??= new Map());

// An element can be defined once.
export function define(tag, element) {
  if (!customElements.get(tag)) customElements.define(tag, element);
}

// What anywidget calls for each widget: elements of its name in a notebook's outputs meet it; when it ends, they leave.
export const initializeFor = (tag) => ({ model }) => {
  const name = model.get("_name"), elements = () => document.querySelectorAll(`${tag}[data-widget="${name}"]`);
  widgets.set(name, model);
  for (const element of elements()) element.meet();
  return () => {
    widgets.delete(name);
    for (const element of elements()) element.leave();
  };
};

// A kind of source that pages name in their data: `make(data)` returns one.
export function addKind(name, make) {
  kinds.set(name, make);
  for (const element of document.querySelectorAll("vit-attention")) element.begin?.();
}
