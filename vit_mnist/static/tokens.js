// Tokens by name: CLS comes first where there is one, then the patches row by row.

export const mostOf = (numbers) => numbers.indexOf(Math.max(...numbers)); // which is the largest

// An image as canvas.js draws it.
export const asImage = (model, pixels) => ({ side: [model.height, model.width], drawing: true, pixels });

// The place of a query among the tokens, and back. "mean" is no token: CLS or the middle patch stands for it.
export function tokenOf(model, query) {
  if (Array.isArray(query)) return model.cls + query[0] * model.columns + query[1];
  return model.cls ? 0 : Math.floor(model.rows / 2) * model.columns + Math.floor(model.columns / 2);
}
export function queryOf(model, token) {
  const patch = token - model.cls;
  return patch < 0 ? "cls" : [Math.floor(patch / model.columns), patch % model.columns];
}
export function tokenName(model, token) {
  const query = queryOf(model, token);
  return query === "cls" ? "CLS" : `patch (${query.join(", ")})`;
}

// What a query attends to in one head, or on average over all of them: a share for each patch.
export function attentionOf(model, { attention }, { layer, head, query }) {
  const { tokens: n, heads, patches, cls } = model,
    shares = new Float32Array(patches);
  const asked = query === "mean" ? Array.from({ length: patches }, (_, i) => cls + i) : [tokenOf(model, query)];
  const used = head === null ? Array.from({ length: heads }, (_, i) => i) : [head];
  for (const one of used)
    for (const row of asked)
      for (let i = 0; i < patches; i++)
        shares[i] += attention[layer][(one * n + row) * n + cls + i] / used.length / asked.length;
  return shares;
}
