// An explorer tied to a Python object: what one side changes the other follows, and the kernel is its source.

import { KernelSource } from "./sources.js";
import { NAMES } from "./state.js";

export function connect(element, model) {
  let source = null;
  const state = () => Object.fromEntries(NAMES.map((name) => [name, model.get(name)]));
  const onData = () => {
    source = new KernelSource(model.get("_data"), (need) => model.send({ need }));
    element.show({ ...model.get("_data"), state: state() }, source);
  };
  const onState = () => element.set(state(), false);
  const onMessage = ({ result, replaced, index, problem }, buffers) => {
    if (replaced) { // Python changed it in place: another element that meets this model shall find it, too
      model.get("_data").images[index] = replaced;
      element.setImage(index, replaced);
    }
    if (problem) element.fail(problem);
    if (result) source.answer(result, buffers[0]);
  };
  const onChange = ({ detail }) => {
    for (const [name, value] of Object.entries(detail)) model.set(name, value);
    model.save_changes();
  };
  const end = new AbortController();
  element.addEventListener("vit-change", onChange, end);
  model.on("msg:custom", onMessage);
  model.on("change:_data", onData);
  for (const name of NAMES) model.on(`change:${name}`, onState);
  onData();
  return () => {
    end.abort();
    model.off("msg:custom", onMessage);
    model.off("change:_data", onData);
    for (const name of NAMES) model.off(`change:${name}`, onState);
  };
}
