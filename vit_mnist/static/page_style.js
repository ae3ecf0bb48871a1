// How <vit-page> looks around the explorer and the panels.

export const PAGE_STYLE = `
  :host { display: block; font: 14px/1.45 system-ui, sans-serif;
    --line: color-mix(in srgb, currentColor 22%, transparent);
    --soft: color-mix(in srgb, currentColor 9%, transparent);
    --quiet: color-mix(in srgb, currentColor 72%, transparent); --accent: #3b82f6; }
  :host([hidden]), [hidden] { display: none !important; }
  :host(.walking) { padding-bottom: 270px; }
  * { box-sizing: border-box; }
  vit-attention { max-width: none; }
  vit-pad { max-width: none; }
  button { font: inherit; color: inherit; background: transparent; border: 1px solid var(--line); border-radius: 6px;
    padding: 3px 9px; min-height: 28px; cursor: pointer; }
  button:hover { background: var(--soft); }
  :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
  [data-told] { outline: 3px solid #c2410c; outline-offset: 3px; border-radius: 4px; scroll-margin-bottom: 260px; }
  .page-top { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: center; padding: 4px; }
  .page-top p { margin: 0; flex: 1 1 30ch; }
  .page-said { margin: 0; padding: 0 4px; color: var(--quiet); overflow-wrap: anywhere; }
  .page-said:empty { display: none; }
  .page-said img { display: block; max-width: 100%; }
  .page-examples { display: grid; grid-template-columns: repeat(10, minmax(0, 40px)); gap: 4px; margin: 6px 0 10px;
    font-size: 12.5px; }
  .page-examples span { grid-column: 1 / -1; color: var(--quiet); }
  .page-examples button { padding: 0; }
  .page-answer { margin-left: auto; font-size: 16px; }
  @media (min-width: 520px) { .page-answer { display: none; } } /* the bars stand beside the paper */
  .page-seen { display: grid; grid-template-columns: 88px minmax(0, 1fr); gap: 10px; align-items: start;
    min-height: 92px; }
  .page-seen canvas { width: 88px !important; border: 1px solid var(--line); border-radius: 3px;
    image-rendering: pixelated; }
  .page-seen p { margin: 0; font-size: 12.5px; color: var(--quiet); }
  .page-trust { margin: 8px 0 0; padding-left: 10px; border-left: 3px solid #c2410c; font-size: 12.5px;
    min-height: 5.8em; }
  .page-trust:empty { border-color: transparent; }
  .page-panels { margin: 20px 4px 4px; padding-top: 12px; border-top: 1px solid var(--line); display: grid; gap: 10px;
    grid-template-columns: minmax(0, 1fr); justify-items: start; }
  .page-panels > [role=tabpanel] { width: 100%; max-width: 960px; }
  .page-tabs { display: flex; flex-wrap: wrap; gap: 6px; }
  .page-tabs [aria-selected=true] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
  .panel-title { display: none; margin: 0; } /* on paper there are no tabs that say it */
  .panel-about { margin: 0 0 8px; max-width: 80ch; }
  .walk-step { position: fixed; z-index: 3; bottom: 10px; left: 50%; transform: translateX(-50%); padding: 10px 16px;
    width: min(640px, calc(100vw - 20px)); background: Canvas; color: CanvasText; border: 2px solid #c2410c;
    border-radius: 8px; box-shadow: 0 4px 18px rgb(0 0 0 / .3); }
  @media (forced-colors: active) {
    .page-tabs [aria-selected=true] { outline: 3px solid Highlight; outline-offset: -1px; }
    [data-told] { outline-color: Highlight; }
  }
  @media print { .panel-title { display: block; }
    .walk, .page-top button, .page-tabs, .page-examples, [data-control=panel-picture] { display: none; } }
`;
